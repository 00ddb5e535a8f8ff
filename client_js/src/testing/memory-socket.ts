import type { EngineLike, ManagerLike, SocketLike } from "../socket-like.js";
import type { End, PacketDown, Wire } from "./wire.js";

/** What a socket asks of the gateway when it is to connect. */
export interface Door {
  /** An attempt: calls one of the functions later, or neither. Returns the name of the transport that is tried. */
  knock(opened: (wire: Wire) => void, failed: (error: Error) => void): string;
}

interface Waiting {
  readonly data: unknown[];
  readonly id: number | undefined;
}

type Listener = (...args: unknown[]) => void;
type Acknowledge = (...values: unknown[]) => void;

class MemoryEngine implements EngineLike {
  transport: { readonly name: string };
  readonly #upgrades: ((transport: { readonly name: string }) => void)[] = [];

  constructor(name: string) {
    this.transport = { name };
  }

  on(_event: "upgrade", listener: (transport: { readonly name: string }) => void): void {
    this.#upgrades.push(listener);
  }

  upgrade(name: string): void {
    this.transport = { name };
    for (const listener of this.#upgrades) listener(this.transport);
  }
}

/** Behaves as the socket of socket.io-client, its manager included, over a `Wire`. */
export class MemorySocket implements SocketLike, End<PacketDown> {
  connected = false;
  recovered = false;
  auth: SocketLike["auth"] = {};
  sendBuffer: unknown[] = [];
  id: string | undefined;
  readonly io: ManagerLike & { engine: MemoryEngine | undefined };
  readonly volatile = { emit: (event: string, ...args: unknown[]): void => this.#emitVolatile(event, args) };
  /** As in socket.io-client: there where the server keeps a place. */
  _pid: string | undefined;

  readonly #door: Door;
  readonly #listeners = new Map<string, Listener[]>();
  readonly #acks = new Map<number, Acknowledge>();
  #offset: string | undefined;
  #ids = 0;
  #wire: Wire | undefined;
  /** Counts attempts, and is 0 while none is wanted. */
  #attempt = 0;
  #attempts = 0;
  #isActive = false;

  constructor(door: Door) {
    this.#door = door;
    this.io = { engine: undefined, _close: () => this.#close("forced close") };
  }

  connect(): void {
    if (this.connected) return;
    this.#isActive = true;
    if (this.#attempt) return;
    const attempt = (this.#attempt = ++this.#attempts);
    const transport = this.#door.knock(
      (wire) => {
        if (attempt === this.#attempt) this.#opened(wire);
        else wire.close();
      },
      (error) => {
        if (attempt !== this.#attempt) return;
        this.#attempt = 0;
        this.#tell("connect_error", error);
      },
    );
    this.io.engine = new MemoryEngine(transport);
  }

  disconnect(): void {
    if (this.connected) this.#wire?.up({ type: "disconnect" });
    this.#leave("io client disconnect");
  }

  emit(event: string, ...args: unknown[]): void {
    const last = args.at(-1);
    let id: number | undefined;
    if (typeof last === "function") {
      id = this.#ids++;
      this.#acks.set(id, args.pop() as Acknowledge);
    }
    const packet = { data: [event, ...args], id };
    if (this.connected) this.#send(packet);
    else this.sendBuffer.push(packet);
  }

  on(event: string, listener: (...args: never[]) => void): void {
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener as Listener]);
  }

  off(event: string, listener: (...args: never[]) => void): void {
    const others = [...(this.#listeners.get(event) ?? [])];
    const index = others.indexOf(listener as Listener);
    if (index >= 0) others.splice(index, 1);
    this.#listeners.set(event, others);
  }

  received(packet: PacketDown): void {
    switch (packet.type) {
      case "connect":
        return this.#connected(packet.sid, packet.pid);
      case "connect_error": {
        const { message, data } = packet;
        this.#isActive = false;
        this.#close("forced close");
        return this.#tell("connect_error", Object.assign(new Error(message), { data }));
      }
      case "event":
        return this.#event(packet.data, packet.id);
      case "ack": {
        const acknowledge = this.#acks.get(packet.id);
        this.#acks.delete(packet.id);
        return acknowledge?.(...packet.data);
      }
      case "disconnect":
        return this.#leave("io server disconnect");
    }
  }

  closed(reason: string): void {
    this.#close(reason);
  }

  #emitVolatile(event: string, args: unknown[]): void {
    if (this.connected) this.emit(event, ...args);
  }

  #opened(wire: Wire): void {
    this.#wire = wire;
    wire.client = this;
    const send = (auth: object): void => {
      // To whatever connection there is by then.
      this.#wire?.up({
        type: "connect",
        auth,
        ...(this._pid !== undefined && { pid: this._pid }),
        ...(this.#offset !== undefined && { offset: this.#offset }),
      });
    };
    if (typeof this.auth === "function") this.auth(send);
    else send(this.auth);
  }

  #connected(sid: string, pid: string | undefined): void {
    this.id = sid;
    // Not a boolean where the server keeps no place: so it is in socket.io-client.
    this.recovered = (pid && this._pid === pid) as boolean;
    this._pid = pid;
    this.connected = true;
    for (const packet of this.sendBuffer.splice(0)) this.#send(packet as Waiting);
    this.#tell("connect");
  }

  #event(data: unknown[], id: number | undefined): void {
    const [event, ...args] = data;
    const last = data.at(-1);
    if (id === undefined) {
      this.#tell(String(event), ...args);
    } else {
      let isSent = false;
      this.#tell(String(event), ...args, (...values: unknown[]) => {
        if (isSent) return;
        isSent = true;
        this.#wire?.up({ type: "ack", id, data: values });
      });
    }
    // After the listeners: an event that failed to be taken is not known as taken.
    if (this._pid !== undefined && id === undefined && typeof last === "string") this.#offset = last;
  }

  #send({ data, id }: Waiting): void {
    this.#wire?.up({ type: "event", data, ...(id !== undefined && { id }) });
  }

  /** For good: nobody listens to the connection any more. */
  #leave(reason: string): void {
    const wasConnected = this.connected;
    this.#isActive = false;
    this.#close(reason);
    if (wasConnected) this.#disconnected(reason);
  }

  #close(reason: string): void {
    this.#attempt = 0;
    this.#wire?.close();
    this.#wire = undefined;
    // As the manager, which tells each time, be there a connection or not.
    if (this.#isActive) this.#disconnected(reason);
  }

  #disconnected(reason: string): void {
    this.connected = false;
    this.id = undefined;
    this.#tell("disconnect", reason);
    const kept = new Set(this.sendBuffer.map((packet) => (packet as Waiting).id));
    for (const id of this.#acks.keys()) if (!kept.has(id)) this.#acks.delete(id);
  }

  #tell(event: string, ...args: unknown[]): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(...args);
  }
}
