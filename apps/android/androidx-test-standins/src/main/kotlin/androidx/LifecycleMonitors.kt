package androidx.test.internal.runner.lifecycle

import android.app.Activity
import android.app.Application
import androidx.test.runner.lifecycle.ActivityLifecycleCallback
import androidx.test.runner.lifecycle.ActivityLifecycleMonitor
import androidx.test.runner.lifecycle.ApplicationLifecycleCallback
import androidx.test.runner.lifecycle.ApplicationLifecycleMonitor
import androidx.test.runner.lifecycle.ApplicationStage
import androidx.test.runner.lifecycle.Stage

class ActivityLifecycleMonitorImpl : ActivityLifecycleMonitor {
    override fun addLifecycleCallback(callback: ActivityLifecycleCallback) {}

    override fun removeLifecycleCallback(callback: ActivityLifecycleCallback) {}

    override fun getLifecycleStageOf(activity: Activity) = Stage.CREATED

    override fun getActivitiesInStage(stage: Stage): Collection<Activity> = emptyList()

    @Suppress("UNUSED_PARAMETER")
    fun signalLifecycleChange(
        stage: Stage,
        activity: Activity,
    ) {
    }
}

class ApplicationLifecycleMonitorImpl : ApplicationLifecycleMonitor {
    override fun addLifecycleCallback(callback: ApplicationLifecycleCallback) {}

    override fun removeLifecycleCallback(callback: ApplicationLifecycleCallback) {}

    @Suppress("UNUSED_PARAMETER")
    fun signalLifecycleChange(
        app: Application,
        stage: ApplicationStage,
    ) {
    }
}
