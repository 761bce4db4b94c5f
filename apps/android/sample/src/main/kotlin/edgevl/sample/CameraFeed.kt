package edgevl.sample

import android.annotation.SuppressLint
import android.app.Activity
import android.graphics.ImageFormat
import android.graphics.SurfaceTexture
import android.hardware.camera2.CameraCaptureSession
import android.hardware.camera2.CameraCharacteristics
import android.hardware.camera2.CameraDevice
import android.hardware.camera2.CameraManager
import android.media.ImageReader
import android.os.Handler
import android.os.HandlerThread
import android.view.Surface
import android.view.TextureView
import edgevl.android.toPicture
import edgevl.android.turnOf
import edgevl.picture.Picture

private const val WIDTH = 640
private const val HEIGHT = 480
private const val QUARTER = 90

/** Frames of the back camera by camera2, one at a time: while one is looked at, the others are dropped. */
class CameraFeed(
    private val activity: Activity,
    private val preview: TextureView,
    private val use: (Picture) -> Unit,
) : AutoCloseable {
    private val manager = checkNotNull(activity.getSystemService(CameraManager::class.java))
    private val thread = HandlerThread("camera").apply { start() }
    private val handler = Handler(thread.looper)
    private val reader = ImageReader.newInstance(WIDTH, HEIGHT, ImageFormat.YUV_420_888, 2)
    private var device: CameraDevice? = null
    private var turn = 0

    /** Start as soon as there is a surface to show the preview on. */
    fun open() {
        reader.setOnImageAvailableListener(::frame, handler)
        if (preview.isAvailable) return openCamera()
        preview.surfaceTextureListener =
            object : TextureView.SurfaceTextureListener {
                override fun onSurfaceTextureAvailable(
                    surface: SurfaceTexture,
                    width: Int,
                    height: Int,
                ) = openCamera()

                override fun onSurfaceTextureSizeChanged(
                    surface: SurfaceTexture,
                    width: Int,
                    height: Int,
                ) {}

                override fun onSurfaceTextureDestroyed(surface: SurfaceTexture) = true

                override fun onSurfaceTextureUpdated(surface: SurfaceTexture) {}
            }
    }

    private fun frame(reader: ImageReader) {
        val picture = reader.acquireLatestImage()?.use { it.toPicture(turn) } ?: return
        use(picture)
    }

    @SuppressLint("MissingPermission") // the activity asks before it opens
    private fun openCamera() {
        val id =
            manager.cameraIdList.firstOrNull { facing(it) == CameraCharacteristics.LENS_FACING_BACK } ?: manager.cameraIdList.firstOrNull()
                ?: return
        val sensor = manager.getCameraCharacteristics(id).get(CameraCharacteristics.SENSOR_ORIENTATION) ?: 0

        @Suppress("DEPRECATION") // Activity.getDisplay came with Android 11
        val display = activity.windowManager.defaultDisplay.rotation * QUARTER
        turn = turnOf(sensor, display, facing(id) == CameraCharacteristics.LENS_FACING_FRONT)
        manager.openCamera(id, Opened(), handler)
    }

    private fun facing(id: String) = manager.getCameraCharacteristics(id).get(CameraCharacteristics.LENS_FACING)

    private inner class Opened : CameraDevice.StateCallback() {
        override fun onOpened(camera: CameraDevice) {
            device = camera
            val texture = preview.surfaceTexture ?: return
            texture.setDefaultBufferSize(WIDTH, HEIGHT)
            val surfaces = listOf(Surface(texture), reader.surface)
            @Suppress("DEPRECATION") // SessionConfiguration came with Android 9, and says no more here
            camera.createCaptureSession(surfaces, Streaming(surfaces), handler)
        }

        override fun onDisconnected(camera: CameraDevice) = camera.close()

        override fun onError(
            camera: CameraDevice,
            error: Int,
        ) = camera.close()
    }

    private inner class Streaming(
        private val surfaces: List<Surface>,
    ) : CameraCaptureSession.StateCallback() {
        override fun onConfigured(session: CameraCaptureSession) {
            val request = session.device.createCaptureRequest(CameraDevice.TEMPLATE_PREVIEW)
            surfaces.forEach(request::addTarget)
            session.setRepeatingRequest(request.build(), null, handler)
        }

        override fun onConfigureFailed(session: CameraCaptureSession) = session.device.close()
    }

    override fun close() {
        device?.close()
        thread.quitSafely()
        reader.close()
    }
}
