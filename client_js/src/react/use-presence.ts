import type { Subscriber } from "../channel.js";
import type { CoreClient } from "../core/client.js";
import type { Channels, NameIn } from "../contract.js";
import { useView } from "./use-view.js";

export interface PresenceView {
  /** Each once. While the connection is sought, those of before. */
  readonly subscribers: readonly Subscriber[];
  /** Why they could not be asked for, or are no longer known. */
  readonly error: Error | undefined;
}

type Change = (subscribers: readonly Subscriber[]) => readonly Subscriber[];

/** Who is subscribed to a channel; subscribes to it while the component is mounted. */
export function usePresence<C>(client: CoreClient<C>, name: NameIn<Channels<C>>): PresenceView {
  return useView<C, NameIn<Channels<C>>, PresenceView>(
    client,
    name,
    () => ({ subscribers: [], error: undefined }),
    (channel, { get, set }) => {
      let asked = 0;
      /** What came while the answer is due: the answer may be older or newer. */
      let early: Change[] | undefined;
      const alter = (isThere: boolean) => (subscriber: Subscriber): void => {
        const change: Change = (list) =>
          list.filter(({ client }) => client !== subscriber.client).concat(isThere ? subscriber : []);
        early?.push(change);
        set({ subscribers: change(get().subscribers) });
      };
      return [
        (state) => {
          const question = ++asked;
          early = undefined;
          if (state.status === "unsubscribed") set({ subscribers: [], error: state.reason });
          // Also where the channel was recovered: that brings publications, not who came and went.
          if (state.status !== "subscribed") return;
          const changes: Change[] = (early = []);
          const answered = (view: Partial<PresenceView>): void => {
            if (question !== asked) return;
            early = undefined;
            set(view);
          };
          channel.presence().then(
            (list) => answered({ subscribers: changes.reduce((all, change) => change(all), list), error: undefined }),
            (error: Error) => answered({ error }),
          );
        },
        channel.on("join", alter(true)),
        channel.on("leave", alter(false)),
        () => asked++,
      ];
    },
  );
}
