export { NodeWebSocket as WebSocket, WebTransport } from "socket.io-client";
export { TransportChooser, type AutoOptions, type TransportReport } from "./chooser.js";
export type { StreamingOptions, TransportOptions } from "./options.js";
export { Polling } from "./polling.js";
export { XhrStreaming } from "./xhr-streaming.js";
