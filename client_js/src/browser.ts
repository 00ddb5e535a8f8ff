/** The global `tidegate` of the browser file: socket.io-client and what we add. */
export { Manager, Socket, connect, io, protocol } from "socket.io-client";
export * from "./index.js";
