// Opens an app that is served somewhere, asks its first example, and prints the answer: node test/served.mjs ADDRESS
import { launch, opened } from "./browser.mjs";

const browser = await launch();
try {
  const page = await browser.newPage();
  await page.goto(process.argv[2]);
  await opened(page);
  await page.locator(".chip").first().click();
  console.log(await page.locator(".answers .answer").first().textContent());
} finally {
  await browser.close();
}
