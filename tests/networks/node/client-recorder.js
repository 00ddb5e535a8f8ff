// In the page, beside recorder.js: the client of `tidegate.connect()`, its states on the screen, and what it was told.
Object.assign(recorder, {
  /** Each state in turn, as `status` or `status:reason`. */
  states: [],
  /** How often a connection came back with, and without, what was missed. */
  recovered: { yes: 0, no: 0 },
  reports: [],
  /** Numbers whose sending has failed, with the reason. */
  failed: [],

  open(options = {}) {
    recorder.note("begin");
    const client = (recorder.tidegate = tidegate.connect(undefined, {
      auth: { client: recorder.client },
      onTransport: (report) => recorder.reports.push(report),
      ...options,
    }));
    let wasConnected = false;
    const show = (state) => {
      const { status, reason } = state;
      recorder.states.push(status === "connected" ? `connected:${state.transport}` : `${status}:${reason.code}`);
      recorder.note(`state ${status}`, { transport: state.transport, reason: reason.message });
      if (status === "recovering") wasConnected = true;
      if (status === "connected" && wasConnected) {
        wasConnected = false;
        recorder.recovered[state.recovered ? "yes" : "no"]++;
      }
      recorder.paint();
    };
    show(client.connection.get());
    client.connection.subscribe(show);
    client.on("number", (n) => {
      if (recorder.numbers.length === 0) recorder.note("first number");
      recorder.numbers.push(n);
      recorder.paint();
    });
  },

  /** Sends the numbers from `first` up to, not including, `end`, spread over the time. */
  async emit(first, end, everyMs = 0) {
    for (let n = first; n < end; n++) {
      recorder.tidegate.emit("number", n).catch((error) => recorder.failed.push([n, error.message]));
      if (everyMs > 0) await new Promise((resolve) => setTimeout(resolve, everyMs));
    }
  },

  paint() {
    const { yes, no } = recorder.recovered;
    const { numbers } = recorder;
    const missing = numbers.length ? Math.max(...numbers) + 1 - new Set(numbers).size : 0;
    document.body.textContent = [
      recorder.states.at(-1),
      `received ${numbers.length}, missing ${missing}, repeated ${numbers.length - new Set(numbers).size}`,
      `recovered ${yes}, not recovered ${no}`,
    ].join("\n");
  },
});
