plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "edgevl.android"
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
}
