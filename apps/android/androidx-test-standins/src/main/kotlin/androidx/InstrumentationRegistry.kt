package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

object InstrumentationRegistry {
    private var instrumentation: Instrumentation? = null
    private var arguments: Bundle? = null

    @JvmStatic
    fun registerInstance(
        instrumentation: Instrumentation?,
        arguments: Bundle?,
    ) {
        this.instrumentation = instrumentation
        this.arguments = arguments
    }

    @JvmStatic
    fun getInstrumentation(): Instrumentation = instrumentation!!

    @JvmStatic
    fun getArguments(): Bundle = arguments!!
}
