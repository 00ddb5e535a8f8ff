import { Client, type ClientOptions } from "../client.js";
import { CoreClient, type CoreOptions } from "../core/client.js";
import type { ArgumentsOf, Channels, FromServer, NameIn, ToServer } from "../contract.js";
import { requests } from "../requests.js";
import { GatewaySocket } from "./gateway-socket.js";
import { channelNameOf, MemoryChannel, type ChannelOptions, type Member, type Question } from "./memory-channel.js";
import { MemorySocket } from "./memory-socket.js";
import { FAILED, HANDLED, OnceStreams, UNHANDLED } from "./once-streams.js";
import { UnderWay, Wire, type End, type PacketUp, type Scheduler } from "./wire.js";

export interface MemoryGatewayOptions<C = object> {
  /**
   * When a packet arrives; default: in a microtask of its own, which mock timers leave alone. With
   * `(deliver) => setTimeout(deliver, 50)` the network takes its time.
   */
  schedule?: Scheduler;
  /** Decides on each client that wants in: throws to refuse it, a `ConnectionRefused` to say why. May be async. */
  admit?: (auth: Readonly<Record<string, unknown>>) => void | Promise<void>;
  /** Events kept for a client that is away. Default: 1,000. 0: there is no recovery. */
  recovery?: number;
  /** Of channels that are given none of their own. Default: the last 100 publications, and presence. False: none at all. */
  channels?: ChannelOptions | false;
  /** What presence tells of a subscriber. Default: nothing but its id. */
  infoOf?: (socket: GatewaySocket<C>) => unknown;
  /** The name of the transport that clients see. Default: `memory`. */
  transport?: string;
}

/** An answer of the HTTP server or of the gateway's handshake, before Socket.IO; `docs/refusals.md` lists them. */
export interface HttpRefusal {
  readonly status: number;
  /** Of Engine.IO. Without one the answer is that of a proxy, and says nothing. */
  readonly code?: number;
  readonly message: string;
  /** The header `Retry-After`, in seconds. */
  readonly retryAfter?: number;
}

export interface RefuseOptions {
  /** How many attempts are refused. Default: all until `accept()`. */
  readonly times?: number;
}

/** What `admit` throws: the client is told `message`, and `data` with it. */
export class ConnectionRefused extends Error {
  constructor(
    message: string,
    readonly data?: unknown,
  ) {
    super(message);
  }
}

/** What handlers get after the arguments that were sent. */
export interface HandlerContext<C> {
  readonly socket: GatewaySocket<C>;
}

/**
 * Gets what was sent, then the context; of an event with any number of arguments the context is the last. A parameter
 * with a default value would hide the context: leave the value out.
 */
export type GatewayHandler<C, Event> = Event extends (...args: infer A) => infer R
  ? number extends A["length"]
    ? (...args: (A[number] | HandlerContext<C>)[]) => R | Promise<Awaited<R>>
    : (...args: [...A, HandlerContext<C>]) => R | Promise<Awaited<R>>
  : never;

type Handler = (...args: unknown[]) => unknown;
type Answer = readonly unknown[];

/** Turns of microtasks that promises get to follow one another before something is sent again. */
const TURNS = 32;

/**
 * A gateway in memory, for tests without sockets: real clients, whose packets go through it as they would over a
 * network: serialised, in order, and later.
 *
 * ```ts
 * const gateway = new MemoryGateway<Chat>();
 * gateway.on("say", (text, { socket }) => text.length);
 * const client = gateway.connect();
 * assert.equal(await client.emit("say", "hello"), 5);
 * gateway.cut();
 * ```
 */
export class MemoryGateway<C = object> {
  /** What handlers have thrown, oldest first; clients are told "Internal server error". */
  readonly failures: unknown[] = [];

  readonly #options: Required<Omit<MemoryGatewayOptions<C>, "admit" | "infoOf">>;
  readonly #admit: NonNullable<MemoryGatewayOptions<C>["admit"]>;
  readonly #infoOf: NonNullable<MemoryGatewayOptions<C>["infoOf"]>;
  readonly #handlers = new Map<string, Handler>();
  readonly #channels = new Map<string, MemoryChannel<never>>();
  readonly #once = new OnceStreams();
  readonly #underWay = new UnderWay();
  readonly #clientSockets = new WeakMap<object, MemorySocket>();
  /** By the socket of the client; with the places of clients that are away. */
  readonly #sockets = new Map<MemorySocket, GatewaySocket<C>>();
  readonly #wires = new Map<Wire, MemorySocket>();
  #network: "online" | "offline" | "silent" = "online";
  #refusal: { error: ConnectionRefused | HttpRefusal; times: number } | undefined;
  #ids = 0;
  #offsets = 0;

  constructor(options: MemoryGatewayOptions<C> = {}) {
    const { admit = () => {}, infoOf = () => undefined, ...given } = options;
    this.#admit = admit;
    this.#infoOf = infoOf;
    this.#options = { schedule: queueMicrotask, recovery: 1_000, channels: {}, transport: "memory", ...given };
  }

  // -- clients -----------------------------------------------------------------------------------------

  /** A client of this gateway, with the options of `connect()` that do not concern the network. */
  connect(options: ClientOptions = {}): Client<C> {
    return this.#connect((socket) => new Client<C>(socket, options));
  }

  /** A client of `tidegate-client/core`, with the parts that are given. */
  connectCore(options: CoreOptions = {}): CoreClient<C> {
    return this.#connect((socket) => new CoreClient<C>(socket, { ...options, outbox: options.outbox ?? requests }));
  }

  #connect<T extends CoreClient<C>>(make: (socket: MemorySocket) => T): T {
    const socket: MemorySocket = new MemorySocket({
      knock: (opened, failed) => this.#knock(socket, opened, failed),
    });
    const client = make(socket);
    this.#clientSockets.set(client, socket);
    return client;
  }

  /** Clients that have a place here, connected or away. */
  get sockets(): readonly GatewaySocket<C>[] {
    return [...this.#sockets.values()];
  }

  /** The side of the gateway of a client; undefined where it has no place here. */
  socketOf(client: CoreClient<C>): GatewaySocket<C> | undefined {
    const socket = this.#clientSockets.get(client);
    return socket && this.#sockets.get(socket);
  }

  /** Resolves once nothing is under way: packets, handlers, decisions on clients. Timers are not waited for. */
  async settled(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn++) {
      if (!this.#underWay.isNothing) turn = 0;
      await this.#underWay.nothing();
    }
  }

  // -- events ------------------------------------------------------------------------------------------

  /** Handles an event: what the handler returns is the answer. Returns what ends that; the last one given counts. */
  on<E extends NameIn<ToServer<C>>>(event: E, handler: GatewayHandler<C, ToServer<C>[E]>): () => void {
    const own = handler as unknown as Handler;
    this.#handlers.set(event, own);
    return () => {
      if (this.#handlers.get(event) === own) this.#handlers.delete(event);
    };
  }

  /** Sends an event to all clients, and to those that are away when they come back. */
  emit<E extends NameIn<FromServer<C>>>(event: E, ...args: ArgumentsOf<FromServer<C>[E]>): void {
    for (const socket of this.sockets) socket.emit(event, ...args);
  }

  /** The channel of that name; `options` count the first time that it is named, by a test or a client. */
  channel<N extends NameIn<Channels<C>>>(name: N, options?: ChannelOptions): MemoryChannel<Channels<C>[N]> {
    return this.#channel(name, options) as unknown as MemoryChannel<Channels<C>[N]>;
  }

  // -- refusals ----------------------------------------------------------------------------------------

  /** Refuses attempts to connect: in the words of the application, or as an answer of the HTTP server. */
  refuse(refusal: string | ConnectionRefused | HttpRefusal, { times = Infinity }: RefuseOptions = {}): void {
    this.#refusal = { error: typeof refusal === "string" ? new ConnectionRefused(refusal) : refusal, times };
  }

  /** Undoes `refuse()`. */
  accept(): void {
    this.#refusal = undefined;
  }

  // -- the network -------------------------------------------------------------------------------------

  /** Ends connections: all, or that of one client. What is under way is lost. Places are kept. */
  cut(client?: CoreClient<C>): void {
    for (const wire of this.#wiresOf(client)) wire.cut();
  }

  /** As `cut()`, and the places of the clients are forgotten: they come back as new ones. */
  lose(client?: CoreClient<C>): void {
    this.cut(client);
    const lost = client && this.#clientSockets.get(client);
    if (!client) this.#sockets.clear();
    else if (lost) this.#sockets.delete(lost);
  }

  /** As where the process of the gateway ends and another begins: all is lost that it had in memory. */
  restart(): void {
    this.lose();
    this.#once.forget();
    for (const channel of this.#channels.values()) channel.forgetHistory();
  }

  /** Cuts all connections, and attempts fail, until `goOnline()`. */
  goOffline(): void {
    this.#network = "offline";
    this.cut();
  }

  /** As where a cable is pulled: nothing arrives any more, nobody is told, and attempts neither succeed nor fail. */
  goSilent(): void {
    this.#network = "silent";
    for (const wire of this.#wires.keys()) wire.die();
  }

  /** Attempts succeed again. A connection that fell silent stays so. */
  goOnline(): void {
    this.#network = "online";
  }

  /** The connection of a client moves to another transport, as after a probe. */
  upgrade(client: CoreClient<C>, transport: string): void {
    this.#clientSockets.get(client)?.io.engine?.upgrade(transport);
  }

  #wiresOf(client: CoreClient<C> | undefined): Wire[] {
    const socket = client && this.#clientSockets.get(client);
    return [...this.#wires].filter(([, owner]) => !client || owner === socket).map(([wire]) => wire);
  }

  // -- letting in --------------------------------------------------------------------------------------

  #knock(socket: MemorySocket, opened: (wire: Wire) => void, failed: (error: Error) => void): string {
    if (this.#network !== "silent") {
      this.#later(() => {
        if (this.#network === "silent") return;
        if (this.#network === "offline") return failed(transportError(0));
        const refusal = this.#refusal?.error;
        if (refusal && !(refusal instanceof ConnectionRefused)) {
          this.#countRefusal();
          return failed(transportError(refusal.status, refusal));
        }
        const wire = new Wire(this.#options.schedule, this.#underWay);
        wire.server = this.#endOf(wire, socket);
        this.#wires.set(wire, socket);
        opened(wire);
      });
    }
    return this.#options.transport;
  }

  #endOf(wire: Wire, owner: MemorySocket): End<PacketUp> {
    let socket: GatewaySocket<C> | undefined;
    return {
      received: (packet) => {
        if (packet.type === "connect") {
          void this.#join(packet, wire, owner, (joined) => (socket = joined));
        } else if (packet.type === "disconnect") {
          this.#wires.delete(wire);
          if (socket) this.#forget(socket, owner);
        } else if (packet.type === "ack") {
          socket?.answered(packet.id, packet.data);
        } else if (socket) {
          this.#event(socket, wire, packet.data, packet.id);
        }
      },
      closed: (reason) => {
        this.#wires.delete(wire);
        if (!socket) return;
        if (reason === "disconnected" || this.#options.recovery === 0) this.#forget(socket, owner);
        else this.#detach(socket);
      },
    };
  }

  async #join(
    { auth, pid, offset }: Extract<PacketUp, { type: "connect" }>,
    wire: Wire,
    owner: MemorySocket,
    joined: (socket: GatewaySocket<C>) => void,
  ): Promise<void> {
    this.#underWay.begin();
    try {
      const given = (auth ?? {}) as Readonly<Record<string, unknown>>;
      const refusal = this.#refusal?.error;
      if (refusal instanceof ConnectionRefused) {
        this.#countRefusal();
        throw refusal;
      }
      await this.#admit(given);
      if (!wire.isOpen || !wire.server) return;
      const [socket, since] = this.#placeOf(owner, given, pid, offset);
      joined(socket);
      socket.attach(wire, this.#options.recovery > 0 ? pidOf(socket) : undefined, since);
    } catch (error) {
      const isMeant = error instanceof ConnectionRefused;
      if (!isMeant) this.failures.push(error);
      wire.down({
        type: "connect_error",
        message: isMeant ? error.message : "Internal server error",
        ...(isMeant && { data: error.data }),
      });
    } finally {
      this.#underWay.end();
    }
  }

  /** The place of before with the offset at which it goes on, or a new one. */
  #placeOf(
    owner: MemorySocket,
    auth: Readonly<Record<string, unknown>>,
    pid: string | undefined,
    offset: string | undefined,
  ): [GatewaySocket<C>, string | undefined] {
    const before = this.#sockets.get(owner);
    // A connection that fell silent, of which the gateway does not know yet.
    if (before) this.#detach(before);
    if (before && pid === pidOf(before) && before.canResume(offset)) return [before, offset];
    const { recovery } = this.#options;
    const next = (): string => `offset-${++this.#offsets}`;
    const socket = new GatewaySocket<C>(`client-${++this.#ids}`, auth, recovery || undefined, next);
    this.#sockets.set(owner, socket);
    return [socket, undefined];
  }

  #countRefusal(): void {
    if (this.#refusal && --this.#refusal.times < 1) this.#refusal = undefined;
  }

  #detach(socket: GatewaySocket<C>): void {
    const wire = socket.detach();
    if (wire) {
      wire.server = undefined;
      this.#wires.delete(wire);
    }
    for (const channel of this.#channels.values()) channel.left(socket);
  }

  #forget(socket: GatewaySocket<C>, owner: MemorySocket): void {
    this.#detach(socket);
    if (this.#sockets.get(owner) === socket) this.#sockets.delete(owner);
  }

  // -- handling ----------------------------------------------------------------------------------------

  #event(socket: GatewaySocket<C>, wire: Wire, data: unknown[], id: number | undefined): void {
    const [event, ...args] = data;
    const acknowledge = (values: Answer): void => {
      if (id !== undefined) wire.down({ type: "ack", id, data: [...values] });
    };
    if (event === "tidegate:once") {
      // Without an ack id nobody would hear of it.
      if (id === undefined) return;
      return this.#once.receive(args, (name, rest) => this.#handle(socket, name, rest), acknowledge);
    }
    void this.#handle(socket, String(event), args).then(([code, ...values]) => {
      if (code === HANDLED) acknowledge(values);
    });
  }

  /** The answer to a message, its code first. */
  async #handle(socket: GatewaySocket<C>, event: string, args: unknown[]): Promise<Answer> {
    this.#underWay.begin();
    try {
      const question = this.#options.channels && questionOf(event);
      if (question) return [HANDLED, this.#answer(socket, question, args[0])];
      const handler = this.#handlers.get(event);
      if (!handler) return [UNHANDLED, { message: `no handler for '${event}'` }];
      // The context comes where the handler has its place, also if arguments were left out.
      while (args.length < handler.length - 1) args.push(undefined);
      const value = await handler(...args, { socket } satisfies HandlerContext<C>);
      return value === undefined ? [HANDLED] : [HANDLED, value];
    } catch (error) {
      this.failures.push(error);
      return [FAILED, { message: "Internal server error" }];
    } finally {
      this.#underWay.end();
    }
  }

  #answer(socket: GatewaySocket<C>, question: Question | "unsubscribe", body: unknown): object {
    const asked = channelNameOf(body);
    return "error" in asked ? asked : this.#channel(asked.name).answer(question, asked.body, socket);
  }

  #channel(name: string, options: ChannelOptions = {}): MemoryChannel<never> {
    let channel = this.#channels.get(name);
    if (!channel) {
      const all = { history: 100, presence: true, ...this.#options.channels, ...options };
      channel = new MemoryChannel<never>(name, all, (member: Member) => this.#infoOf(member as GatewaySocket<C>));
      this.#channels.set(name, channel);
    }
    return channel;
  }

  #later(what: () => void): void {
    this.#underWay.begin();
    this.#options.schedule(() => {
      try {
        what();
      } finally {
        this.#underWay.end();
      }
    });
  }
}

const QUESTIONS = ["subscribe", "unsubscribe", "publish", "presence", "history"] as const;

function questionOf(event: string): Question | "unsubscribe" | undefined {
  return QUESTIONS.find((question) => event === `channel:${question}`);
}

function pidOf(socket: GatewaySocket<never>): string {
  return `place-of-${socket.id}`;
}

/** As engine.io-client makes it: of no connection, or of an answer that is an error. */
function transportError(status: number, refusal?: HttpRefusal): Error {
  const { code, message, retryAfter } = refusal ?? {};
  const responseText = code === undefined ? (message ?? "") : JSON.stringify({ code, message });
  const header = retryAfter === undefined ? null : String(retryAfter);
  const context = {
    status,
    responseText,
    getResponseHeader: (name: string) => (name.toLowerCase() === "retry-after" ? header : null),
  };
  return Object.assign(new Error("xhr poll error"), { type: "TransportError", description: status, context });
}
