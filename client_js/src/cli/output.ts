import { writeSync } from "node:fs";

/** What has not been written to a reader that is slower than the server; more would only cost memory. */
const MAX_UNWRITTEN_BYTES = 64 * 2 ** 20;

/** Standard output, which may be a pipe whose reader goes away or falls behind, and standard error. */
export class Output {
  readonly #isVerbose: boolean;

  /** `closed`: the reader has gone, which is no error. */
  constructor(isVerbose: boolean, closed: () => void, failed: (error: Error) => void) {
    this.#isVerbose = isVerbose;
    process.stdout.on("error", (error: NodeJS.ErrnoException) => (error.code === "EPIPE" ? closed() : failed(error)));
    // There is nowhere left to say it.
    process.stderr.on("error", () => {});
  }

  /** Raises: Error where the reader is too slow. */
  line(text: string): void {
    if (process.stdout.writableLength > MAX_UNWRITTEN_BYTES) {
      throw new Error(`the output is not read: over ${MAX_UNWRITTEN_BYTES} bytes wait`);
    }
    process.stdout.write(`${text}\n`);
  }

  /** For people, and only when they ask for it. */
  detail(text: string): void {
    if (this.#isVerbose) this.note(text);
  }

  note(text: string): void {
    process.stderr.write(`# ${text}\n`);
  }

  /** Resolves when all is written that can be. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      process.stdout.write("", () => resolve());
    });
  }
}

/** The last words before the process ends. */
export function complain(text: string): void {
  try {
    writeSync(2, `tidegate-client: ${text}\n`);
  } catch {
    // standard error is closed: the exit code tells
  }
}
