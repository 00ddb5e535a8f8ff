// One connection for the pages of a browser: tidegate-client/worker in a SharedWorker of headless Chromium.
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { launch } from "./chromium.mjs";
import { FACTOR, run } from "./clients.mjs";

const root = fileURLToPath(new URL("../../../client_js/", import.meta.url));
const PAGES = `${root}build/pages`;

const WORKER = `
  import { connect } from "./dist/index.js";
  import { serve } from "./dist/worker/index.js";
  serve(self, () => connect(location.origin, { firstDelay: 50, maxDelay: 200 }));
`;
const PAGE = `
  import { connect } from "./dist/index.js";
  import { connectShared } from "./dist/worker/index.js";
  const inPage = { said: [], publications: [], states: [], fallback: undefined };
  if (location.hash === "#without") delete window.SharedWorker;
  const client = connectShared(() => new SharedWorker("/pages/worker.js"), {
    fallback: () => connect(location.origin),
    onFallback: (reason) => (inPage.fallback = reason),
  });
  client.on("said", (text) => void inPage.said.push(text));
  client.connection.subscribe(({ status }) => inPage.states.push(status));
  client.channel("news").on("publication", ({ data }) => inPage.publications.push(data));
  Object.assign(window, { client, inPage });
`;

async function buildPages() {
  const { build } = createRequire(`${root}package.json`)("esbuild");
  mkdirSync(PAGES, { recursive: true });
  for (const [name, contents] of [["worker", WORKER], ["page", PAGE]]) {
    await build({
      stdin: { contents, resolveDir: root },
      outfile: `${PAGES}/${name}.js`,
      bundle: true,
      format: "iife",
      platform: "browser",
      target: "es2022",
      logLevel: "error",
    });
  }
}

run(async ({ url }) => {
  await buildPages();
  const browser = await launch();
  const errors = [];
  try {
    const context = await browser.newContext();
    const open = async (hash = "") => {
      const page = await context.newPage();
      page.on("pageerror", (error) => errors.push(String(error)));
      await page.goto(`${url}/page${hash}`);
      await page.addScriptTag({ url: "/pages/page.js" });
      await when(page, () => window.client.connection.get().status === "connected", "connected");
      return page;
    };
    const when = (page, condition, what, argument) =>
      page.waitForFunction(condition, argument, { timeout: 15_000 * FACTOR }).catch((error) => {
        throw new Error(`never: ${what} (${error.message})`);
      });
    const ask = (page, ...args) => page.evaluate((args) => window.client.emit(...args), args);
    const publish = (page, data) => page.evaluate((data) => window.client.channel("news").publish(data), data);
    const stats = (page) => ask(page, "stats");
    const seen = (page) => page.evaluate(() => ({ ...window.inPage, client: undefined }));
    const whenStats = async (page, condition, what) => {
      let last;
      const deadline = Date.now() + 60_000 * FACTOR;
      do {
        last = await stats(page);
        if (Date.now() > deadline) throw new Error(`never: ${what}: ${JSON.stringify(last)}`);
      } while (!condition(last));
      return last;
    };

    const pages = [await open(), await open(), await open()];
    const [one, two, three] = pages;
    const result = { clients: (await stats(one)).clients };

    for (const page of [one, two]) await page.evaluate(() => window.client.channel("news").subscribe());
    // Listening is told to the worker in order, so an answered message says that it is done.
    for (const page of pages) await stats(page);
    await ask(one, "say", "hello");
    await publish(three, "one");
    for (const page of pages) await when(page, () => window.inPage.said.includes("hello"), "hello");
    for (const page of [one, two]) await when(page, () => window.inPage.publications.length >= 1, "a publication");
    result.subscribers = (await stats(one)).subscribers.news.length;
    result.answers = await Promise.all(pages.map((page, i) => ask(page, "say", ...Array(i + 1).fill("x"))));

    // The connection of all is lost, and each page goes on.
    await ask(three, "drop_subscribers", "news");
    for (const page of pages) {
      await when(page, () => window.inPage.states.includes("recovering"), "a loss");
      await when(page, () => window.client.connection.get().status === "connected", "connected again");
    }
    await publish(three, "two");
    for (const page of [one, two]) await when(page, () => window.inPage.publications.includes("two"), "the second");
    result.afterLoss = { clients: (await stats(one)).clients, subscribers: (await stats(one)).subscribers.news.length };

    // One reloads, the other closes.
    await two.reload();
    await two.addScriptTag({ url: "/pages/page.js" });
    await when(two, () => window.client.connection.get().status === "connected", "connected after a reload");
    await publish(three, "three");
    await when(one, () => window.inPage.publications.includes("three"), "the third");
    result.seen = { one: await seen(one), three: await seen(three) };
    await one.close();
    const left = await whenStats(three, ({ subscribers }) => !subscribers.news, "nobody is subscribed");
    result.afterClose = { clients: left.clients, unsubscribed: left.calls["channel:unsubscribe"] };

    // One that cannot say goodbye.
    const lost = await open();
    await lost.evaluate(() => window.client.channel("news").subscribe());
    await whenStats(three, ({ subscribers }) => subscribers.news?.length === 1, "subscribed");
    const devtools = await context.newCDPSession(lost);
    devtools.send("Page.crash").catch(() => {});
    await new Promise((resolve) => lost.once("crash", resolve));
    const afterCrash = await whenStats(three, ({ subscribers }) => !subscribers.news, "the page that crashed is gone");
    result.afterCrash = { clients: afterCrash.clients };

    const without = await open("#without");
    result.without = { reason: (await seen(without)).fallback, clients: (await stats(without)).clients };
    await without.evaluate(() => window.client.close());
    result.errors = errors;
    return result;
  } finally {
    await browser.close();
  }
});
