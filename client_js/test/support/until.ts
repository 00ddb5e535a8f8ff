const FACTOR = Number(process.env.TEST_TIMEOUT_FACTOR ?? 1);

/** Waits until the condition holds. */
export async function until(condition: () => boolean, what: string | (() => string), seconds = 10): Promise<void> {
  const deadline = Date.now() + seconds * 1_000 * FACTOR;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`never: ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
