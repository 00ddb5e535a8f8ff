// The stock client and ours, from the same installation, for tests outside this package.
export { io } from "socket.io-client";
export * from "../../dist/index.js";
export * as core from "../../dist/core/index.js";
