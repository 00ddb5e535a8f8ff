// In the page: what happens to it and to its socket, for the test to read as `recorder`.
globalThis.recorder = {
  /** Under this name the server counts what the page sends and is sent, over all its connections. */
  client: new URLSearchParams(location.search).get("client"),
  /** The numbers that came, in the order they came. */
  numbers: [],
  /** `{at, kind, …}`: milliseconds since the page was loaded, and what happened. */
  events: [],
  socket: undefined,

  note(kind, details = {}) {
    recorder.events.push({ at: Math.round(performance.now()), kind, ...details });
  },

  /** Opens a socket of the stock API with `options`. */
  connect(options = {}) {
    recorder.note("begin");
    const all = { auth: { client: recorder.client }, ...options };
    recorder.follow(tidegate.io(tidegate.withStreaming(all)));
  },

  follow(socket) {
    recorder.socket = socket;
    socket.on("number", (n) => {
      if (recorder.numbers.length === 0) recorder.note("first number");
      recorder.numbers.push(n);
    });
    socket.on("connect", () => recorder.note("connect", { transport: socket.io.engine.transport.name }));
    socket.on("connect_error", (error) => recorder.note("connect_error", { message: error.message }));
    socket.on("disconnect", (reason, details) =>
      recorder.note("disconnect", { reason, description: String(details?.description?.message ?? details?.description) }),
    );
    const followEngine = () => {
      const { engine } = socket.io;
      recorder.note("open", { transport: engine.transport.name });
      engine.on("upgrade", ({ name }) => recorder.note("upgrade", { transport: name }));
      engine.on("upgradeError", ({ transport, message }) => recorder.note("upgradeError", { transport, message }));
    };
    if (socket.io.engine?.readyState === "open") followEngine();
    socket.io.on("open", followEngine);
  },

  /** Sends the numbers from `first` up to, not including, `end`. */
  send(first, end) {
    for (let n = first; n < end; n++) recorder.socket.emit("number", n);
  },

  kinds: () => recorder.events.map(({ kind }) => kind),
};
for (const [target, names] of [
  [window, ["online", "offline", "pageshow", "pagehide"]],
  [document, ["visibilitychange", "freeze", "resume"]],
]) {
  for (const name of names) {
    target.addEventListener(name, (event) => {
      recorder.note(name, {
        ...("persisted" in event && { persisted: event.persisted }),
        ...(name === "visibilitychange" && { state: document.visibilityState }),
      });
    });
  }
}
