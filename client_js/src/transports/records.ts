/** Ends every record of a stream; separates the packets of a `POST`. */
export const SEPARATOR = "\u001e";

/** Takes text that arrives in pieces, gives whole records, wherever the pieces were cut. */
export class RecordSplitter {
  #rest = "";

  /** Whether the text so far stops inside a record. */
  get isInsideRecord(): boolean {
    return this.#rest !== "";
  }

  push(text: string): string[] {
    const records = text.split(SEPARATOR);
    records[0] = this.#rest + records[0];
    this.#rest = records.pop() as string;
    return records;
  }
}

export function utf8Length(text: string): number {
  // Each half of a surrogate pair is two of its four bytes.
  return text.replace(/[\u0080-\u07ff\ud800-\udfff]/g, "--").replace(/[\u0800-\uffff]/g, "---").length;
}

/**
 * Cuts a payload between packets so that each piece is within `maxBytes`. socket.io-client keeps to the
 * server's `maxPayload` for the transport called "polling" only, so this transport does it itself. One packet
 * that is too large on its own stays whole, for the server to refuse. 0 or less: no limit.
 */
export function splitPayload(payload: string, maxBytes: number): string[] {
  if (maxBytes <= 0 || payload.length * 3 <= maxBytes) return [payload];
  const pieces: string[] = [];
  let left = 0;
  for (const packet of payload.split(SEPARATOR)) {
    const length = utf8Length(packet);
    left -= length + 1;
    if (left >= 0) {
      pieces.push(pieces.pop() + SEPARATOR + packet);
    } else {
      pieces.push(packet);
      left = maxBytes - length;
    }
  }
  return pieces;
}
