/** Ends every record of a stream; separates the packets of a `POST`. */
export const SEPARATOR = "\u001e";

/** Text that arrives in pieces becomes whole records, wherever the pieces were cut. */
export class RecordSplitter {
  private rest = "";

  /** Whether the text so far stops inside a record. */
  get isInsideRecord(): boolean {
    return this.rest !== "";
  }

  push(text: string): string[] {
    const records = text.split(SEPARATOR);
    const rest = records.pop() as string;
    if (records.length === 0) {
      this.rest += rest;
    } else {
      records[0] = this.rest + records[0];
      this.rest = rest;
    }
    return records;
  }
}

/** The same for bytes: a character may be cut too. */
export class RecordDecoder {
  // A byte order mark is not ours to swallow: it would be part of a message.
  private readonly utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
  private readonly splitter = new RecordSplitter();

  push(bytes: Uint8Array): string[] {
    return this.splitter.push(this.utf8.decode(bytes, { stream: true }));
  }

  /** No more bytes come. Returns whether the last record was whole. */
  end(): boolean {
    this.splitter.push(this.utf8.decode());
    return !this.splitter.isInsideRecord;
  }
}

export function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0x7f) length++;
    // Each half of a surrogate pair is two of its four bytes.
    if (unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff)) length++;
  }
  return length;
}

/**
 * Cuts a payload between packets so that each piece is within `maxBytes`. socket.io-client keeps to the
 * server's `maxPayload` for the transport called "polling" only, so this transport does it itself. One packet
 * that is too large on its own stays whole, for the server to refuse. 0 or less: no limit.
 */
export function splitPayload(payload: string, maxBytes: number): string[] {
  if (maxBytes <= 0 || payload.length * 3 <= maxBytes || utf8Length(payload) <= maxBytes) return [payload];
  const pieces: string[] = [];
  let piece: string[] = [];
  let size = 0;
  for (const packet of payload.split(SEPARATOR)) {
    const length = utf8Length(packet);
    if (piece.length > 0 && size + 1 + length > maxBytes) {
      pieces.push(piece.join(SEPARATOR));
      piece = [];
      size = 0;
    }
    size += length + (piece.length > 0 ? 1 : 0);
    piece.push(packet);
  }
  pieces.push(piece.join(SEPARATOR));
  return pieces;
}
