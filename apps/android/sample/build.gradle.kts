plugins {
    id("com.android.application")
    kotlin("android")
}

android {
    namespace = "edgevl.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "edgevl.sample"
        minSdk = 28
        targetSdk = 35
        versionCode = 1
        versionName = "0.1.0"
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
    }
    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    // The weights are as small as they get: compressing them again would only cost time at the first start.
    androidResources { noCompress += listOf("onnx", "tflite", "pte") }
    // Libraries stay in the APK, uncompressed: what 16 KB pages need.
    packaging { jniLibs { useLegacyPackaging = false } }
    sourceSets["main"].java.srcDir("src/main/kotlin")
}

kotlin { jvmToolchain(17) }

dependencies {
    implementation(project(":edgevl-android"))
    implementation(project(":edgevl-onnxruntime"))
}
