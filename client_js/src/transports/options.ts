import type { Socket, SocketOptions } from "engine.io-client";

/** Settings of the transport: `transportOptions: {"xhr-streaming": {…}}`, or `streaming` of `withStreaming()`. */
export interface StreamingOptions {
  /**
   * Bytes that each response begins with, for proxies and browsers that hold back the first ones (3 to 65536;
   * 0 for none). Default: 0 with fetch, 2048 with XMLHttpRequest. A response that cannot begin with a packet
   * has at least 16, to show that it is not held back.
   */
  padding?: number;
  /**
   * Milliseconds without a first packet after which the response counts as buffered by a proxy; the client then
   * tries the next transport, or stays with the one it has. Default: 3000.
   */
  firstRecordTimeout?: number;
  /**
   * Milliseconds of silence after which a response counts as dead and is asked for again; 0 for never.
   * Default: the server's ping interval and a quarter of its ping timeout.
   */
  stallTimeout?: number;
  /**
   * Milliseconds that an upgrade to xhr-streaming leaves to WebSocket and WebTransport when the client has these
   * too: the first to answer wins, and they are better. Default: 3000; less where they fail sooner.
   */
  upgradeDelay?: number;
  /** Read responses with this only. Default: fetch where its body can be read, else XMLHttpRequest. */
  via?: "fetch" | "xhr";
}

/** What the engine hands to a transport. */
export interface TransportOptions extends SocketOptions, StreamingOptions {
  socket: Socket;
  query: Record<string, string>;
}
