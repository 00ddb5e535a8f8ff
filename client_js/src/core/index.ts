/** The client without what `connect()` of `tidegate-client` adds to it, and that as parts. */
export { connect, type CoreConnectOptions } from "./connect.js";
export {
  CoreClient,
  type CoreOptions,
  type EmitOptions,
  type OutboxPart,
  type PagePart,
  type TokenPart,
  type TransportsPart,
} from "./client.js";
export { autoTransports, type AutoTransportsOptions } from "../auto.js";
export { outbox, type OutboxOptions } from "../outbox.js";
export { pageEvents } from "../page.js";
export { tokens, type TokenNeed, type TokenSource, type TokensOptions } from "../token.js";
export {
  Channel,
  type ChannelEvents,
  type ChannelState,
  type History,
  type HistoryOptions,
  type Position,
  type Publication,
  type Subscriber,
} from "../channel.js";
export type { ConnectionState, Reason, ReasonCode } from "../connection.js";
export type { Contract } from "../contract.js";
export { TidegateError, type ErrorCode } from "../errors.js";
export type { Observable } from "../listeners.js";
export type { TransportName } from "../options.js";
export { readRefusal, refusalOf, shouldRetry, type Refusal, type RefusalName } from "../refusals.js";
export type { Sender } from "../sender.js";
export type { StreamingOptions, TransportReport } from "../transports/index.js";
