import { useEffect, useRef } from "react";
import type { ChannelState, Position, Publication } from "../channel.js";
import type { CoreClient } from "../core/client.js";
import type { Channels, NameIn } from "../contract.js";
import { useView } from "./use-view.js";

export interface UseChannelOptions<T> {
  /** How many publications are kept, the latest. Default: 100. */
  limit?: number | undefined;
  /** Is told of each publication, also of those that one render skips. */
  onPublication?: ((publication: Publication<T>) => void) | undefined;
}

export interface ChannelView<T> {
  /** Those since this component has subscribed, oldest first. */
  readonly publications: readonly Publication<T>[];
  readonly state: ChannelState;
  /** `channel.publish()`: the same function as long as the channel is the same. */
  readonly publish: (data: T) => Promise<Partial<Position>>;
}

/** Subscribes to a channel while the component is mounted. */
export function useChannel<C, N extends NameIn<Channels<C>>>(
  client: CoreClient<C>,
  name: N,
  options: UseChannelOptions<Channels<C>[N]> = {},
): ChannelView<Channels<C>[N]> {
  const latest = useRef(options);
  useEffect(() => void (latest.current = options));
  return useView<C, N, ChannelView<Channels<C>[N]>>(
    client,
    name,
    (channel) => ({
      publications: [],
      state: { status: "subscribing" },
      publish: (data) => channel.publish(data),
    }),
    (channel, { get, set }) => [
      (state) => set({ state }),
      channel.on("publication", (publication) => {
        const { limit = 100, onPublication } = latest.current;
        const publications = [...get().publications, publication];
        publications.splice(0, publications.length - limit);
        set({ publications });
        onPublication?.(publication);
      }),
    ],
  );
}
