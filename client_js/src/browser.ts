/** The global `tidegate` of the browser file: socket.io-client and what we add. Its `connect()` is ours. */
export { Manager, Socket, io, protocol } from "socket.io-client";
export * from "./index.js";
