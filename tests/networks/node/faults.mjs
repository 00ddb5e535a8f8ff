// What befalls a page; the browser is that of `launchAsUsers()`.
// tests/networks/test_faults.py shows of each that it does this, and what it leaves alone.

const sessions = new WeakMap();
const covers = new WeakMap();

async function cdp(page) {
  if (!sessions.has(page)) sessions.set(page, await page.context().newCDPSession(page));
  return sessions.get(page);
}

async function setOffline(page, offline) {
  const session = await cdp(page);
  await session.send("Network.enable");
  const conditions = { offline, latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
  await session.send("Network.emulateNetworkConditions", conditions);
}

/**
 * The page is told that it is offline, and requests and WebSockets that it begins fail. What it has open is NOT cut:
 * responses go on, and the frames of WebSockets, both ways, wait and pass later. For a real cut there is tcp_proxy.mjs.
 */
export const cutNetwork = (page) => setOffline(page, true);
export const restoreNetwork = (page) => setOffline(page, false);

/** Another tab comes to the front of the same window. Timers of a hidden page fire once a second. */
export async function hide(page) {
  if (!covers.has(page)) covers.set(page, await page.context().newPage());
  await covers.get(page).bringToFront();
  await page.waitForFunction(() => document.visibilityState === "hidden", null, { polling: 50 });
}

export async function show(page) {
  await page.bringToFront();
  await covers.get(page)?.close();
  covers.delete(page);
  await page.waitForFunction(() => document.visibilityState === "visible", null, { polling: 50 });
}

/**
 * The page is hidden and stands still: no timers, no events of the network. What is evaluated in it runs all the same,
 * except what waits.
 */
export async function freeze(page) {
  // One that is frozen in front would be hidden too, and bringing it to the front would not show it again.
  await hide(page);
  await (await cdp(page)).send("Page.setWebLifecycleState", { state: "frozen" });
}

/** It goes on, as a tab does that its user comes back to: in front. */
export async function thaw(page) {
  await (await cdp(page)).send("Page.setWebLifecycleState", { state: "active" });
  await show(page);
}

/** The page goes to `url`, and lies in the back/forward cache if Chromium takes it. */
export async function leave(page, url) {
  await page.goto(url);
}

/** Back to where it was. Chromium says why in `why`, where it had to be loaded anew. */
export async function goBack(page) {
  const session = await cdp(page);
  await session.send("Page.enable");
  const why = [];
  const note = ({ notRestoredExplanations }) => why.push(...notRestoredExplanations.map(({ reason }) => reason));
  session.on("Page.backForwardCacheNotUsed", note);
  // A page out of the cache fires no "load", so waiting for one would not end.
  await page.goBack({ waitUntil: "commit" });
  session.off("Page.backForwardCacheNotUsed", note);
  return { why };
}
