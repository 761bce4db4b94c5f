plugins {
    id("com.android.library")
    kotlin("android")
}

android {
    namespace = "edgevl.onnx"
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
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.29.0") // its libraries are aligned to 16 KB pages
}
