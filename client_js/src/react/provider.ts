import { createContext, createElement, useContext, type ReactNode } from "react";
import type { Client } from "../client.js";
import type { CoreClient } from "../core/client.js";

// One context for clients of every contract; useClient() names the one that is meant.
const Gateway = createContext<unknown>(undefined);

/** Gives its children the client, which stays yours to close. */
export function GatewayProvider<C>({ client, children }: { client: CoreClient<C>; children?: ReactNode }): ReactNode {
  return createElement(Gateway.Provider, { value: client }, children);
}

/**
 * The client of the provider around: `useClient<MyContract>()`; of `tidegate-client/core`:
 * `useClient<MyContract, CoreClient<MyContract>>()`. Throws where there is none.
 */
export function useClient<C = object, T extends CoreClient<C> = Client<C>>(): T {
  const client = useContext(Gateway);
  if (!client) throw new Error("no <GatewayProvider> around useClient()");
  return client as T;
}
