import { el } from "./dom.js";

/** Show the camera until a photo is taken; null if the person thinks better of it. Throws a sentence that can be shown. */
export async function takePhoto(): Promise<Blob | null> {
  let stream: MediaStream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
  } catch (error) {
    const denied = error instanceof DOMException && error.name === "NotAllowedError";
    throw new Error(denied ? "The camera may not be used here: allow it in the browser, or choose a picture." : "There is no camera: choose a picture.", { cause: error });
  }
  try {
    return await shot(stream);
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

function shot(stream: MediaStream): Promise<Blob | null> {
  const video = el("video", { autoplay: true, muted: true, playsinline: true, "aria-label": "What the camera sees" });
  video.srcObject = stream;
  return new Promise((resolve) => {
    let photo: Promise<Blob | null> = Promise.resolve(null);
    const take = el("button", { type: "button", class: "primary", onclick: () => {
      photo = pictureOf(video);
      dialog.close();
    } }, "Take it");
    const dialog = el("dialog", { class: "camera", "aria-label": "Take a photo", onclose: () => {
      dialog.remove();
      resolve(photo);
    } }, video, el("div", { class: "row" }, take, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel")));
    document.body.append(dialog);
    dialog.showModal();
    take.focus();
  });
}

/** The frame that is shown, in full size. PNG, as JPEG would change it. */
function pictureOf(video: HTMLVideoElement): Promise<Blob | null> {
  const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d")?.drawImage(video, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
