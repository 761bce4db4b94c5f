package androidx.test.runner.intent

import android.app.Instrumentation
import android.content.Intent

interface IntentCallback {
    fun onIntentSent(intent: Intent)
}

interface IntentMonitor {
    fun addIntentCallback(callback: IntentCallback)

    fun removeIntentCallback(callback: IntentCallback)
}

interface IntentStubber {
    fun getActivityResultForIntent(intent: Intent): Instrumentation.ActivityResult?
}

object IntentMonitorRegistry {
    private var monitor: IntentMonitor? = null

    @JvmStatic
    fun getInstance() = monitor!!

    @JvmStatic
    fun registerInstance(monitor: IntentMonitor?) {
        this.monitor = monitor
    }
}

object IntentStubberRegistry {
    private var stubber: IntentStubber? = null

    @JvmStatic
    fun isLoaded() = stubber != null

    @JvmStatic
    fun getInstance() = stubber!!

    @JvmStatic
    fun load(stubber: IntentStubber?) {
        this.stubber = stubber
    }
}
