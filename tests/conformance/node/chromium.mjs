// Debian's Chromium without a window.
import { spawn } from "node:child_process";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const EXECUTABLE = "/usr/bin/chromium";
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** For a browser that playwright does not start: no asking, nothing said to anybody outside. */
const OWN_ARGS = [
  "--headless",
  "--disable-breakpad",
  "--disable-default-apps",
  "--disable-dev-shm-usage",
  "--disable-extensions",
  "--no-default-browser-check",
  "--password-store=basic",
  "--use-mock-keychain",
  "--ignore-certificate-errors",
  "--remote-debugging-port=0",
];

export const launch = () => chromium.launch({ executablePath: EXECUTABLE, args: ARGS });

/**
 * A browser whose pages live as those of a user do. Playwright's own start would switch off the back/forward cache and
 * the throttling of hidden pages, and have every page believe that it is visible and focused, so it can never be frozen.
 * `pid` is that of the process group. Certificates are not looked at.
 */
export async function launchAsUsers({ timeoutMs }) {
  const profile = await fs.mkdtemp(path.join(os.tmpdir(), "tidegate-chromium-"));
  const child = spawn(EXECUTABLE, [...ARGS, ...OWN_ARGS, `--user-data-dir=${profile}`, "about:blank"], {
    detached: true,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = new Promise((resolve) => child.once("close", resolve));
  const signal = (name) => {
    try {
      process.kill(-child.pid, name);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  };
  const removeProfile = () => fs.rm(profile, { recursive: true, force: true, maxRetries: 5 });
  try {
    const endpoint = await announced(child, timeoutMs);
    const browser = await chromium.connectOverCDP(endpoint, { noDefaults: true, timeout: timeoutMs });
    const [context] = browser.contexts();
    return {
      browser,
      context,
      pid: child.pid,
      signal,
      async close() {
        signal("SIGCONT");
        await browser.close();
        signal("SIGTERM");
        const timer = setTimeout(() => signal("SIGKILL"), timeoutMs);
        await ended;
        clearTimeout(timer);
        await removeProfile();
      },
    };
  } catch (error) {
    signal("SIGKILL");
    await ended;
    await removeProfile();
    throw error;
  }
}

/** The address that Chromium writes to standard error. */
function announced(child, timeoutMs) {
  return new Promise((resolve, reject) => {
    let said = "";
    const fail = (what) => reject(new Error(`chromium ${what}: ${said.slice(-2000)}`));
    const timer = setTimeout(() => fail("did not start"), timeoutMs);
    child.once("error", reject);
    child.once("close", (code) => fail(`ended with ${code}`));
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (text) => {
      said = (said + text).slice(-20_000);
      const found = /^DevTools listening on (ws:\S+)$/m.exec(said);
      if (!found) return;
      clearTimeout(timer);
      resolve(found[1]);
    });
  });
}
