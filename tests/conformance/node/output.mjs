// Standard output and standard error are pipes here: what the reader has not taken when `process.exit()` is called,
// all beyond 64 KiB often, is lost.

/** Resolves once the system has all of `text`. */
const written = (stream, text) => new Promise((resolve) => stream.write(text, resolve));

/** Prints `result` as JSON and ends the process, whatever it still has open. */
export async function printAndExit(result) {
  await written(process.stdout, `${JSON.stringify(result)}\n`);
  process.exit(0);
}

/** Ends the process as failed, with what went wrong on standard error. */
export async function failAndExit(error) {
  await written(process.stderr, `${error?.stack ?? error}\n`);
  process.exit(1);
}
