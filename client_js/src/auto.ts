import type { Manager } from "socket.io-client";
import type { TransportsPart } from "./core/client.js";
import { TransportChooser, type AutoOptions, type TransportReport } from "./transports/index.js";

export interface AutoTransportsOptions extends AutoOptions {
  /** Is told what became of each transport that was tried. */
  onTransport?: ((report: TransportReport) => void) | undefined;
}

/** The part that finds out what the network lets through, and remembers it. */
export function autoTransports({ onTransport, ...options }: AutoTransportsOptions = {}): TransportsPart {
  return {
    plug: ({ socket, connection }) => {
      // `uri` is private: test/socket-seam.test.ts names it.
      const manager = socket.io as unknown as Pick<Manager, "opts" | "engine"> & { readonly uri: string };
      const chooser = new TransportChooser(new URL(manager.uri).origin, onTransport, options);
      const { hooks, state } = connection;
      hooks.prepare = () => void (manager.opts.transports = chooser.next());
      hooks.begun = () => chooser.watch(manager.engine);
      hooks.networkChanged = () => chooser.networkChanged();
      state.subscribe(({ status }) => {
        if (status === "closed") chooser.stop();
      });
    },
  };
}
