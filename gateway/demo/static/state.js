// The state of the connection on the screen: what it is, why, until when, and how often it came back.

import { explanation, headline, nameOf, why } from "./words.js";

const TICK_MS = 100;

/** Shows each state of one client after another. `log(text, kind)` is told what changes. */
export class StateView {
  #nodes;
  #log;
  #state = null;
  #came = { complete: 0, gap: 0 };
  /** Whether the connection there is replaces one that was lost. */
  #cameBack = false;
  #isReturning = false;
  #waitsSince = 0;
  #timer;

  constructor(nodes, log) {
    this.#nodes = nodes;
    this.#log = log;
  }

  /** Another client begins. */
  begin() {
    this.#state = null;
    this.#cameBack = this.#isReturning = false;
  }

  show(state) {
    const before = this.#state;
    this.#state = state;
    if (state.status === "recovering") this.#isReturning = true;
    if (state.status === "connected" && before?.status !== "connected") this.#connected(state);
    else this.#noteChange(before, state);
    this.#nodes.state.dataset.state = state.status;
    setText(this.#nodes.headline, headline(state));
    setText(this.#nodes.why, explanation(state, { cameBack: this.#cameBack }));
    this.#countDown();
  }

  #connected(state) {
    this.#cameBack = this.#isReturning;
    this.#isReturning = false;
    const transport = nameOf(state.transport);
    if (!this.#cameBack) return this.#log(`Connected over ${transport}`, "good");
    this.#came[state.recovered ? "complete" : "gap"] += 1;
    setText(this.#nodes.complete, String(this.#came.complete));
    setText(this.#nodes.gap, String(this.#came.gap));
    this.#nodes.gap.dataset.alert = this.#came.gap > 0 ? "warn" : "";
    if (state.recovered) this.#log(`Back over ${transport}, with everything that was missed`, "good");
    else this.#log(`Back over ${transport}, without what was missed`, "bad");
  }

  #noteChange(before, state) {
    const { status, reason } = state;
    if (status === "offline") this.#log(`Offline: ${why(reason)}`, "bad");
    else if (status === "closed") this.#log(`Closed: ${why(reason)}`, "bad");
    else if (before?.status === "offline") this.#log(`Trying again: ${why(reason)}`);
    else if (state.retryAt !== undefined) {
      const lost = before?.status === "connected" ? "Lost the connection" : "The attempt failed";
      this.#log(`${lost}: ${why(reason)}`, "bad");
    }
  }

  #countDown() {
    clearInterval(this.#timer);
    const { status, retryAt } = this.#state;
    const { wait, countdown, bar } = this.#nodes;
    wait.dataset.shown = String(status === "connecting" || status === "recovering");
    if (retryAt === undefined) {
      setText(countdown, "Trying now");
      bar.style.width = "0";
      return;
    }
    this.#waitsSince = Date.now();
    const tick = () => {
      const left = Math.max(0, retryAt - Date.now());
      setText(countdown, `Next attempt in ${(left / 1000).toFixed(left < 9950 ? 1 : 0)} s`);
      bar.style.width = `${(100 * left) / Math.max(1, retryAt - this.#waitsSince)}%`;
    };
    tick();
    this.#timer = setInterval(tick, TICK_MS);
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
