// The pages of the price ticker example in one headless Chromium. Says "ready" once all are connected; told on
// standard input what the server sent last, it waits until every page shows that, tells what the pages counted, and
// ends with its input. With `screenshot`, a folder, any line before that asks for pictures.
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const { pages, screenshot, seconds } = JSON.parse(process.argv[2]);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"],
});
const timeout = seconds * 1000;

/** Runs inside the page. */
function counted() {
  const number = (id) => Number(document.getElementById(id).textContent.replaceAll(/\D/g, ""));
  const rows = [...document.querySelectorAll("#quotes tr")];
  return {
    quotes: Object.fromEntries(rows.map((row) => [row.dataset.symbol, Number(row.dataset.n)])),
    skipped: rows.map((row) => Number(row.querySelector(".skipped").textContent.replaceAll(/\D/g, ""))),
    news: Number(document.querySelector("#news li")?.dataset.n ?? 0),
    newsReceived: number("news-received"),
    newsMissed: number("news-missed"),
    pulsesMissed: number("pulse-missed"),
    state: document.getElementById("state").dataset.state,
    transport: document.getElementById("in-use").textContent,
  };
}

const results = {};
try {
  const opened = await Promise.all(
    pages.map(async ({ name, url }) => {
      const page = await browser.newPage({ viewport: { width: 1180, height: 1000 } });
      const errors = [];
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      await page.goto(url, { timeout });
      await page.waitForFunction(() => document.querySelectorAll("#quotes tr").length > 0, null, { timeout });
      return { name, page, errors };
    }),
  );
  console.log("ready");
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  if (screenshot) {
    await lines.next();
    for (const { name, page } of opened) await page.screenshot({ path: `${screenshot}/${name}.png` });
  }
  const sent = JSON.parse((await lines.next()).value);
  for (const { name, page, errors } of opened) {
    const shows = ({ quotes, news }) =>
      Number(document.querySelector("#news li")?.dataset.n) === news &&
      Object.entries(quotes).every(
        ([symbol, n]) => Number(document.querySelector(`tr[data-symbol="${symbol}"]`)?.dataset.n) === n,
      );
    try {
      await page.waitForFunction(shows, sent, { timeout });
    } catch (error) {
      errors.push(String(error));
    }
    results[name] = { ...(await page.evaluate(counted)), errors };
  }
  console.log(JSON.stringify(results));
  await lines.next(); // the browser stays until nobody wants to look at the server any more
} finally {
  await browser.close();
}
process.stdin.destroy(); // the last thing that keeps the process from ending
