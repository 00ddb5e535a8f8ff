import * as parser from "socket.io-parser";

/** A parser for `io()` that tells of each event that the server sends, whatever its name. */
export function tap(onEvent: (event: string, args: readonly unknown[]) => void): typeof parser {
  class Decoder extends parser.Decoder {
    /** With recovery on, each event ends with the offset at which to go on. */
    #hasOffsets = false;

    constructor(...options: ConstructorParameters<typeof parser.Decoder>) {
      super(...options);
      this.on("decoded", ({ type, data, id }: parser.Packet) => {
        if (type === parser.PacketType.CONNECT) this.#hasOffsets = (data as { pid?: string } | undefined)?.pid !== undefined;
        if (type !== parser.PacketType.EVENT && type !== parser.PacketType.BINARY_EVENT) return;
        const [event, ...args] = data as [string, ...unknown[]];
        if (this.#hasOffsets && id === undefined && typeof args.at(-1) === "string") args.pop();
        onEvent(String(event), args);
      });
    }
  }
  return { ...parser, Decoder };
}
