export { Client, type ClientOptions } from "./client.js";
export type { EmitOptions } from "./core/client.js";
export { connect, type ConnectOptions } from "./connect.js";
export type { ConnectionState, Reason, ReasonCode } from "./connection.js";
export type { Contract } from "./contract.js";
export {
  Channel,
  type ChannelEvents,
  type ChannelState,
  type History,
  type HistoryOptions,
  type Position,
  type Publication,
  type Subscriber,
} from "./channel.js";
export { TidegateError, type ErrorCode } from "./errors.js";
export type { Observable } from "./listeners.js";
export type { Outbox, OutboxOptions } from "./outbox.js";
export type { TokenNeed, TokenSource } from "./token.js";
export {
  transports,
  withStreaming,
  type ClientOptions as StockOptions,
  type StreamingClientOptions,
  type TransportName,
} from "./options.js";
export { readRefusal, refusalOf, shouldRetry, type Refusal, type RefusalName } from "./refusals.js";
export { Polling, WebSocket, WebTransport, XhrStreaming } from "./transports/index.js";
export type { AutoOptions, StreamingOptions, TransportOptions, TransportReport } from "./transports/index.js";
