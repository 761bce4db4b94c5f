// Keeps the app, the runtime and the bundle for use without a network. `edgevl app web` writes the version, which is a
// digest of all files: another one is another cache, so that old and new are never mixed.
const CACHE = "edgevl-app-EDGEVL_VERSION";
const SHELL = "shell.json";

self.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const shell = await (await fetch(SHELL, { cache: "no-store" })).json();
      await cache.addAll(["./", "app.json", ...shell].map((path) => new Request(path, { cache: "no-store" })));
      await self.skipWaiting();
    })(),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const old = (await caches.keys()).filter((name) => name.startsWith("edgevl-app-") && name !== CACHE);
      await Promise.all(old.map((name) => caches.delete(name)));
      await self.clients.claim();
    })(),
  );
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  const found = await cache.match(request, { ignoreSearch: true });
  if (found) return found;
  const fresh = await fetch(request);
  if (fresh.ok && fresh.status === 200) await cache.put(request, fresh.clone()).catch(() => undefined);
  return fresh;
}
