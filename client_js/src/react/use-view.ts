import { useMemo, useSyncExternalStore } from "react";
import type { Channel, ChannelState } from "../channel.js";
import type { CoreClient } from "../core/client.js";
import type { Channels, NameIn } from "../contract.js";
import type { ConnectionState } from "../connection.js";

/** A view's hands: what it is, and how to change it. */
export interface Model<View> {
  get(): View;
  set(change: Partial<View>): void;
}

/** What the view makes of a state of the channel, and what ends its listeners. */
type Listening = [onState: (state: ChannelState) => void, ...ends: (() => void)[]];

/**
 * What a component sees of a channel, which it is subscribed to while it is mounted and the client is not closed. The
 * view starts anew with each subscription; `initial` is also what a server renders.
 *
 * `begin` and `listen` are those of the first render with this client and name.
 */
export function useView<C, N extends NameIn<Channels<C>>, View extends object>(
  client: CoreClient<C>,
  name: N,
  begin: (channel: Channel<Channels<C>[N]>) => View,
  listen: (channel: Channel<Channels<C>[N]>, model: Model<View>) => Listening,
): View {
  const [subscribe, get, getInitial] = useMemo(() => {
    const { connection } = client;
    const channel = client.channel(name);
    const initial = begin(channel);
    let view = initial;
    const get = (): View => view;
    const subscribe = (tell: () => void): (() => void) => {
      const set = (change: Partial<View>): void => {
        view = { ...view, ...change };
        tell();
      };
      let isHeld = false;
      let wasClosed = true;
      const follow = ({ status }: ConnectionState): void => {
        const isClosed = status === "closed";
        if (wasClosed && !isClosed) {
          isHeld = true;
          set(initial);
          channel.subscribe().catch(() => {
            // the channel's state says why
          });
          onState(channel.state.get());
        }
        wasClosed = isClosed;
      };
      const [onState, ...ends] = listen(channel, { get, set });
      ends.push(
        channel.state.subscribe((state) => {
          // Refused, or closed: then there is nothing of ours to undo.
          if (state.status === "unsubscribed") isHeld = false;
          onState(state);
        }),
        connection.subscribe(follow),
      );
      follow(connection.get());
      return () => {
        ends.forEach((end) => end());
        // Later, so that who follows in the same commit (StrictMode, a component that moves) takes it over.
        if (isHeld) queueMicrotask(() => channel.unsubscribe());
      };
    };
    return [subscribe, get, () => initial] as const;
  }, [client, name]);
  return useSyncExternalStore(subscribe, get, getInitial);
}
