// What the client tells, in words for the people in front of the screen.

export const NAMES = { websocket: "WebSocket", "xhr-streaming": "xhr-streaming", polling: "long-polling" };
export const nameOf = (transport) => NAMES[transport] ?? transport;

const LOSSES = {
  "ping timeout": "the server went silent",
  "transport close": "the connection broke",
  "transport error": "the connection failed",
  "parse error": "the server sent something unreadable",
};
/** Of an attempt; the last transport that was tried says it, of which there may have been several. */
const ATTEMPTS = [
  [/^(xhr poll error|websocket error)$/, "nothing got through"],
  [/ended before its first packet$/, "nothing got through"],
];
const WHY_TRIED = {
  first: "",
  remembered: ", as the last time on this network",
  fallback: ", in place of what did not work",
  upgrade: ", as the better one",
  "retried upgrade": ", tried again as the better one",
};
const FAILURES = {
  full: "Not taken: too many lines wait already.",
  expired: "There was no connection in time; it was not sent.",
  timeout: "Sent, but not confirmed in time: it may have been said.",
  closed: "The connection was closed before the server confirmed it: it may have been said.",
  failed: "The server could not handle it.",
  unhandled: "The server does not know what to do with it.",
  forgotten: "The server cannot tell any more whether it was said.",
};

export const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 9.95 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** What went wrong, or what made it begin again. */
export function why({ code, message }) {
  if (code === "lost") return LOSSES[message] ?? message;
  if (code === "refused") return `the server refused: ${message}`;
  return code === "failed" ? attempt(message) : message;
}

const attempt = (message) => ATTEMPTS.find(([pattern]) => pattern.test(message))?.[1] ?? message;

/** The state in a few words. They are read aloud, so nothing in them counts down. */
export function headline(state) {
  if (state.status === "connecting") return "Connecting";
  if (state.status === "recovering") return "Recovering";
  if (state.status === "connected") return `Connected over ${nameOf(state.transport)}`;
  if (state.status === "offline") return state.reason.code === "page" ? "Offline while the page sleeps" : "Offline";
  return "Closed";
}

/** A sentence beside the headline. */
export function explanation(state, { cameBack }) {
  const { status, reason } = state;
  const because = sentence(why(reason));
  if (status === "connected") {
    if (!cameBack) return "Messages go both ways.";
    return state.recovered
      ? "Back in the same place: everything that was missed has been delivered, in order."
      : "Back, but the server could not give back what was missed.";
  }
  if (status === "offline") {
    return reason.code === "network"
      ? "The browser has no network. It goes on by itself when that is back."
      : `${because}. It goes on by itself when the page is shown.`;
  }
  if (status === "closed") return reason.code === "client" ? "Nothing is tried." : `${because}. Nothing more is tried.`;
  if (reason.code === "start") return "The first attempt is under way.";
  return reason.code === "failed" ? `${because}; it goes on trying.` : `${because}.`;
}

/** What `onTransport` told, as [text, kind of log line]. */
export function transportReport({ transport, outcome, as, ms, reason }) {
  const name = transport === "polling" ? "Long-polling" : nameOf(transport);
  if (outcome === "opened") return [`${name} opened in ${duration(ms)} and carries the session${WHY_TRIED[as] ?? ""}`, "good"];
  if (outcome === "failed") return [`${name} did not work: ${attempt(reason)}, after ${duration(ms)}`, "bad"];
  const upgrade = /^upgraded to (.+)$/.exec(reason);
  const to = upgrade ? `handed over to ${nameOf(upgrade[1])}` : `ended: ${LOSSES[reason] ?? reason}`;
  return [`${name} ${to}, after ${duration(ms)}`, "plain"];
}

/** Why a line was not said, by the code of the error. */
export function failure(error) {
  return FAILURES[error.code] ?? `The server refused it: ${error.message}`;
}
