"use client";
/** React 18 and 19. Nothing here opens a connection or subscribes while rendering, so all of it may run on a server. */
export { GatewayProvider, useClient } from "./provider.js";
export { useChannel, type ChannelView, type UseChannelOptions } from "./use-channel.js";
export { useConnection } from "./use-connection.js";
export { usePresence, type PresenceView } from "./use-presence.js";
