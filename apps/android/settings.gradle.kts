// The same sources as a project of Gradle, as Android developers expect it. Maven builds and tests them here (pom.xml).
pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "edgevl"
include(":edgevl-core", ":edgevl-onnxruntime", ":edgevl-litert", ":edgevl-executorch", ":edgevl-android", ":sample")
