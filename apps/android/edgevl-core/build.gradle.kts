plugins { kotlin("jvm") }

kotlin { jvmToolchain(17) }

// The schemas of manifest.json: the files that every reader of bundles shares.
tasks.processResources {
    from("../../jetson") {
        include("*.schema.json")
        into("edgevl")
    }
}
sourceSets.test { kotlin.setSrcDirs(emptyList<String>()) } // Maven runs the tests
