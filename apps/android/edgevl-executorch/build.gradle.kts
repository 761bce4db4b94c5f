plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "edgevl.executorch"
    compileSdk = 35
    defaultConfig {
        minSdk = 28
        consumerProguardFiles("consumer-rules.pro")
    }
    sourceSets["main"].java.srcDir("src/main/kotlin")
}

kotlin { jvmToolchain(17) }

dependencies {
    api(project(":edgevl-core"))
    implementation("org.pytorch:executorch-android:1.0.0")
    implementation("com.facebook.fbjni:fbjni:0.7.0")
    implementation("com.facebook.soloader:nativeloader:0.12.1")
}
