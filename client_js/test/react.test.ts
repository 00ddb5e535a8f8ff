import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { Window } from "happy-dom";
import { createElement as h, StrictMode, startTransition, useState, type FunctionComponent, type ReactNode } from "react";
import type { Root } from "react-dom/client";
import { Client } from "../src/client.js";
import {
  GatewayProvider,
  useChannel,
  useClient,
  useConnection,
  usePresence,
  type ChannelView,
  type PresenceView,
} from "../src/react/index.js";
import { ServerSocket } from "./support/server-socket.js";

interface Chat {
  channels: { news: { title: string }; [room: `room:${string}`]: string };
}

const page = new Window({ url: "http://127.0.0.1/" });
const globals = { window: page, document: page.document, navigator: page.navigator, IS_REACT_ACT_ENVIRONMENT: true };
for (const [name, value] of Object.entries(globals)) {
  Object.defineProperty(globalThis, name, { value, configurable: true });
}
// They look for a document when they are loaded.
const { createRoot, hydrateRoot } = await import("react-dom/client");
const { renderToString } = await import("react-dom/server");
// React 18.2 has it among react-dom's test utilities; 18.3 and later here.
const { act } = await import("react");

const roots: Root[] = [];
afterEach(async () => {
  for (const root of roots.splice(0)) await act(async () => root.unmount());
});

async function mount(node: ReactNode): Promise<{ root: Root; text: () => string }> {
  const container = document.createElement("div");
  const root = createRoot(container);
  roots.push(root);
  await act(async () => root.render(node));
  return { root, text: () => container.textContent ?? "" };
}

/** A client of `Chat` with a server that offers channels with history. */
function scene(): { client: Client<Chat>; socket: ServerSocket; publish: (channel: string, data: unknown) => void } {
  const socket = new ServerSocket();
  const offsets: Record<string, number> = {};
  socket.handlers["channel:subscribe"] = ({ channel, since }: { channel: string; since?: object }) => ({
    offset: offsets[channel] ?? 0,
    epoch: "e",
    ...(since && { recovered: true, publications: [] }),
  });
  socket.handlers["channel:publish"] = ({ channel }: { channel: string }) => ({ offset: (offsets[channel] ?? 0) + 1 });
  socket.handlers["channel:presence"] = () => ({ subscribers: [] });
  const publish = (channel: string, data: unknown): void => {
    offsets[channel] = (offsets[channel] ?? 0) + 1;
    socket.tell("channel:publication", { channel, offset: offsets[channel], data });
  };
  return { client: new Client<Chat>(socket, { firstDelay: 1, maxDelay: 1 }), socket, publish };
}

const textOf = ({ publications, state }: Pick<ChannelView<unknown>, "publications" | "state">): string =>
  `${state.status}:${publications.map(({ data }) => (typeof data === "string" ? data : JSON.stringify(data))).join(",")}`;

const Room: FunctionComponent<{ client: Client<Chat>; name: `room:${string}`; limit?: number }> = ({ client, name, limit }) =>
  textOf(useChannel(client, name, { limit }));

test("useConnection gives the state, and each new one", async () => {
  const { client, socket } = scene();
  const { text } = await mount(h(() => useConnection(client).status));
  assert.equal(text(), "connected");
  socket.isAway = true;
  await act(async () => socket.lose());
  assert.equal(text(), "recovering");
  await act(async () => client.close());
  assert.equal(text(), "closed");
});

test("useChannel subscribes while it is mounted", async () => {
  const { client, socket, publish } = scene();
  const { root, text } = await mount(h(Room, { client, name: "room:a" }));
  assert.equal(text(), "subscribed:");
  await act(async () => {
    publish("room:a", "one");
    publish("room:a", "two");
  });
  assert.equal(text(), "subscribed:one,two");
  await act(async () => root.render(null));
  assert.deepEqual(socket.sentOf("channel:unsubscribe"), [[{ channel: "room:a" }]]);
  assert.equal(client.channel("room:a").state.get().status, "unsubscribed");
});

test("no more publications are kept than asked for, and all are told", async () => {
  const { client, publish } = scene();
  const told: string[] = [];
  const View = ({ limit }: { limit: number }): string =>
    textOf(useChannel(client, "room:a", { limit, onPublication: ({ data }) => told.push(data) }));
  const { root, text } = await mount(h(View, { limit: 2 }));
  await act(async () => ["1", "2", "3"].forEach((data) => publish("room:a", data)));
  assert.equal(text(), "subscribed:2,3");
  await act(async () => root.render(h(View, { limit: 0 })));
  await act(async () => publish("room:a", "4"));
  assert.equal(text(), "subscribed:");
  assert.deepEqual(told, ["1", "2", "3", "4"]);
});

test("the latest onPublication is the one that is called, and a new one does not subscribe again", async () => {
  const { client, socket, publish } = scene();
  const told: string[] = [];
  const View = ({ as }: { as: string }): string =>
    textOf(useChannel(client, "room:a", { onPublication: ({ data }) => told.push(as + data) }));
  const { root } = await mount(h(View, { as: "a" }));
  await act(async () => root.render(h(View, { as: "b" })));
  await act(async () => publish("room:a", "1"));
  assert.deepEqual(told, ["b1"]);
  assert.equal(socket.sentOf("channel:subscribe").length, 1);
});

test("StrictMode's second mount subscribes once, hears each once and unsubscribes at the end", async () => {
  const { client, socket, publish } = scene();
  const told: string[] = [];
  const View = (): string => textOf(useChannel(client, "room:a", { onPublication: ({ data }) => told.push(data) }));
  const { root, text } = await mount(h(StrictMode, null, h(View)));
  await act(async () => publish("room:a", "one"));
  assert.equal(text(), "subscribed:one");
  assert.deepEqual(told, ["one"]);
  assert.equal(socket.sentOf("channel:subscribe").length, 1);
  assert.equal(socket.sentOf("channel:unsubscribe").length, 0);
  await act(async () => root.render(null));
  assert.equal(socket.sentOf("channel:unsubscribe").length, 1);
});

test("with another name it is another channel, from its beginning", async () => {
  const { client, socket, publish } = scene();
  const { root, text } = await mount(h(Room, { client, name: "room:a" }));
  await act(async () => publish("room:a", "of a"));
  const seen: string[] = [];
  const Watched = (): string => {
    const { publications } = useChannel(client, "room:b");
    seen.push(publications.map(({ data }) => data).join());
    return "";
  };
  await act(async () => root.render(h(Room, { client, name: "room:b" })));
  assert.equal(text(), "subscribed:");
  assert.deepEqual(socket.sentOf("channel:unsubscribe"), [[{ channel: "room:a" }]]);
  await act(async () => {
    publish("room:a", "late");
    publish("room:b", "of b");
  });
  assert.equal(text(), "subscribed:of b");
  await mount(h(Watched));
  assert.deepEqual(new Set(seen), new Set([""]), "a component starts with what comes after it has subscribed");
});

test("two components of a channel are one subscription, and see the same in each render", async () => {
  const { client, socket, publish } = scene();
  const seen: string[] = [];
  const Both = (): ReactNode => {
    const [n, setN] = useState(0);
    const first = textOf(useChannel(client, "room:a"));
    const second = textOf(useChannel(client, "room:a"));
    seen.push(`${first}|${second}`);
    const connection = useConnection(client).status;
    return h("button", { onClick: () => startTransition(() => setN(n + 1)) }, `${connection} ${n}`);
  };
  const { root, text } = await mount(h(Both));
  await act(async () => {
    document.querySelectorAll("button").forEach((button) => button.click());
    for (let i = 0; i < 20; i++) {
      publish("room:a", String(i));
      if (i % 5 === 0) await Promise.resolve();
    }
  });
  assert.ok(text().startsWith("connected"));
  for (const each of seen) assert.equal(each.split("|")[0], each.split("|")[1]);
  assert.ok(seen.at(-1)?.includes("18,19"));
  assert.equal(socket.sentOf("channel:subscribe").length, 1);
  await act(async () => root.render(null));
  assert.equal(socket.sentOf("channel:unsubscribe").length, 1);
});

test("one component that goes leaves the other its subscription", async () => {
  const { client, socket, publish } = scene();
  const one = await mount(h(Room, { client, name: "room:a" }));
  const other = await mount(h(Room, { client, name: "room:a" }));
  await act(async () => one.root.render(null));
  await act(async () => publish("room:a", "x"));
  assert.equal(other.text(), "subscribed:x");
  assert.equal(socket.sentOf("channel:unsubscribe").length, 0);
});

test("a refused channel says why; who goes then takes nothing from who has subscribed since", async () => {
  const { client, socket } = scene();
  const subscribe = socket.handlers["channel:subscribe"]!;
  socket.handlers["channel:subscribe"] = () => ({ error: { message: "members only", retry: "no" } });
  const View = (): string => {
    const { state } = useChannel(client, "room:a");
    return state.status === "unsubscribed" ? (state.reason?.message ?? "") : state.status;
  };
  const refused = await mount(h(View));
  assert.equal(refused.text(), "room:a: members only");
  socket.handlers["channel:subscribe"] = subscribe;
  const later = await mount(h(Room, { client, name: "room:a" }));
  assert.equal(later.text(), "subscribed:");
  await act(async () => refused.root.render(null));
  assert.equal(later.text(), "subscribed:");
  assert.equal(client.channel("room:a").state.get().status, "subscribed");
});

test("a client that is closed and connected again in one go is subscribed again", async () => {
  const { client, publish } = scene();
  const { text } = await mount(h(Room, { client, name: "room:a" }));
  await act(async () => publish("room:a", "before"));
  await act(async () => client.close());
  assert.equal(text(), "unsubscribed:before");
  await act(async () => client.connect());
  assert.equal(text(), "subscribed:");
  await act(async () => {
    client.close();
    client.connect();
  });
  await act(async () => publish("room:a", "after"));
  assert.equal(text(), "subscribed:after");
});

test("publish is one function for one channel, and goes to it", async () => {
  const { client, socket } = scene();
  const seen = new Set<unknown>();
  let view: ChannelView<{ title: string }> | undefined;
  const View = (): null => {
    view = useChannel(client, "news");
    seen.add(view.publish);
    return null;
  };
  const { root } = await mount(h(View));
  await act(async () => root.render(h(View)));
  assert.equal(seen.size, 1);
  assert.deepEqual(await view?.publish({ title: "t" }), { offset: 1 });
  assert.deepEqual(socket.sentOf("channel:publish"), [[{ channel: "news", data: { title: "t" } }]]);
});

async function presenceScene(answers: (() => unknown)[]) {
  const { client, socket } = scene();
  socket.handlers["channel:presence"] = () => (answers.length > 1 ? answers.shift() : answers[0])?.();
  let view: PresenceView | undefined;
  const View = (): string => {
    view = usePresence(client, "room:a");
    return view.subscribers.map(({ client }) => client).join();
  };
  const { text, root } = await mount(h(View));
  const tell = (event: "join" | "leave", client: string): Promise<void> =>
    act(async () => socket.tell(`channel:${event}`, { channel: "room:a", client }));
  return { client, socket, text, root, tell, error: () => view?.error };
}

test("usePresence begins with who is there and follows who comes and goes", async () => {
  const { text, tell, root, socket } = await presenceScene([() => ({ subscribers: [{ client: "a" }, { client: "b" }] })]);
  assert.equal(text(), "a,b");
  await tell("join", "c");
  await tell("join", "c");
  await tell("leave", "a");
  assert.equal(text(), "b,c");
  await act(async () => root.render(null));
  assert.equal(socket.sentOf("channel:unsubscribe").length, 1);
});

test("who comes and goes while presence is asked for is not forgotten", async () => {
  let answer = (_: unknown): void => {};
  const { text, tell } = await presenceScene([() => new Promise((resolve) => (answer = resolve))]);
  await tell("join", "c");
  await tell("leave", "a");
  await act(async () => answer({ subscribers: [{ client: "a" }, { client: "b" }] }));
  assert.equal(text(), "b,c");
});

test("after a reconnect presence is asked for anew", async () => {
  const { text, socket } = await presenceScene([
    () => ({ subscribers: [{ client: "a" }] }),
    () => ({ subscribers: [{ client: "z" }] }),
  ]);
  await act(async () => socket.lose());
  await act(async () => {
    while (!socket.connected) await new Promise((resolve) => setTimeout(resolve, 2));
  });
  assert.equal(text(), "z");
  assert.equal(socket.sentOf("channel:presence").length, 2);
});

test("presence that is refused is an error, and nobody", async () => {
  const { text, error } = await presenceScene([() => ({ error: { message: "not for you" } })]);
  assert.equal(text(), "");
  assert.equal(error()?.message, "not for you");
});

const App = ({ client }: { client: Client<Chat> }): ReactNode => {
  const Inner = (): string => {
    const inner = useClient<Chat>();
    const { state } = useChannel(inner, "news");
    return `${useConnection(inner).status} ${state.status} ${usePresence(inner, "news").subscribers.length}`;
  };
  return h(GatewayProvider<Chat>, { client }, h(Inner));
};

test("a server renders without a connection, and the page takes it over", async () => {
  const { client, socket } = scene();
  const html = renderToString(h(App, { client }));
  assert.equal(html, "connecting subscribing 0");
  assert.deepEqual(socket.sent, []);
  const container = document.createElement("div");
  container.innerHTML = html;
  const errors: unknown[] = [];
  await act(async () => {
    roots.push(hydrateRoot(container, h(App, { client }), { onRecoverableError: (error) => errors.push(error) }));
  });
  assert.deepEqual(errors, []);
  assert.equal(container.textContent, "connected subscribed 0");
});

test("useClient outside of a provider says what is missing", () => {
  assert.throws(() => renderToString(h(() => String(useClient()))), /GatewayProvider/);
});

/** Not run: what is wrong does not compile. */
export function Misuse({ client }: { client: Client<Chat> }): ReactNode {
  // @ts-expect-error: no such channel
  useChannel(client, "olds");
  // @ts-expect-error: no such channel
  usePresence(client, "olds");
  const { publish, publications } = useChannel(client, "news", { limit: 5 });
  // @ts-expect-error: not what the channel carries
  void publish("text");
  // @ts-expect-error: has a title, not a name
  publications[0]?.data.name;
  // @ts-expect-error: a list that is not ours to change
  publications.push();
  // @ts-expect-error: a room carries text
  useChannel(client, "room:1", { onPublication: ({ data }) => data.title });
  // @ts-expect-error: no such option
  useChannel(client, "news", { size: 3 });
  // @ts-expect-error: a client, not its connection
  useConnection(client.connection);
  // @ts-expect-error: needs a client
  h(GatewayProvider, {});
  return publications[0]?.data.title;
}
