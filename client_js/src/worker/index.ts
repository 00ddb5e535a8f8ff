/** One connection for all pages of an origin: `serve()` in a worker, `connectShared()` in the pages. */
export { connectShared, type SharedOptions, type WorkerLike } from "./connect-shared.js";
export { serve, type ServeScope } from "./serve.js";
