/** What the client uses of a socket of socket.io-client; `tidegate-client/testing` has one without a network. */
export interface SocketLike {
  readonly connected: boolean;
  /** Whether the server has given back the place of before, with what was missed. */
  readonly recovered: boolean;
  readonly io: ManagerLike;
  auth: object | ((send: (data: object) => void) => void);
  /** Packets that wait for a connection. */
  sendBuffer: unknown[];
  connect(): unknown;
  /** For good: the server forgets the client's place. */
  disconnect(): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  readonly volatile: { emit(event: string, ...args: unknown[]): unknown };
  on(event: string, listener: (...args: never[]) => void): unknown;
  off(event: string, listener: (...args: never[]) => void): unknown;
}

export interface ManagerLike {
  readonly engine?: EngineLike | undefined;
  /** Drops the connection, and not the place. Private in socket.io-client; a test names it should it move. */
  _close(): void;
}

export interface EngineLike {
  readonly transport: { readonly name: string };
  /** Whether a move to another transport is past the point from which it could go back. Protected in engine.io-client. */
  upgrading?: boolean;
  on(event: "upgrade" | "upgradeError", listener: (transport: { readonly name: string }) => void): unknown;
}
