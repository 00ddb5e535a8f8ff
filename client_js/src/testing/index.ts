export {
  ConnectionRefused,
  MemoryGateway,
  type GatewayHandler,
  type HandlerContext,
  type HttpRefusal,
  type MemoryGatewayOptions,
  type RefuseOptions,
} from "./memory-gateway.js";
export type { GatewaySocket } from "./gateway-socket.js";
export type { ChannelOptions, ChannelRefusal, MemoryChannel, Question } from "./memory-channel.js";
export type { Scheduler } from "./wire.js";
