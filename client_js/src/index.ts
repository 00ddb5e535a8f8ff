export {
  transports,
  withStreaming,
  type ClientOptions,
  type StreamingClientOptions,
  type TransportName,
} from "./options.js";
export { readRefusal, refusalOf, shouldRetry, type Refusal, type RefusalName } from "./refusals.js";
export { Polling, WebSocket, WebTransport, XhrStreaming } from "./transports/index.js";
export type { StreamingOptions, TransportOptions } from "./transports/index.js";
