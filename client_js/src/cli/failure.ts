import { TidegateError } from "../errors.js";

export const EXIT = { done: 0, failed: 1, usage: 2, refused: 3, timeout: 4, unhandled: 5 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command, with what to tell the user. */
export class Failure extends Error {
  constructor(
    readonly code: ExitCode,
    message: string,
  ) {
    super(message);
  }
}

/** What an error of the client means to a user of the command. */
export function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (!(error instanceof TidegateError)) return new Failure(EXIT.failed, (error as Error).message);
  const { code, message } = error;
  if (code === "refused") return new Failure(EXIT.refused, message);
  if (code === "unhandled") return new Failure(EXIT.unhandled, message);
  if (code === "timeout") return new Failure(EXIT.timeout, `${message}; the server may have handled it (give it more by --timeout)`);
  if (code === "expired") return new Failure(EXIT.timeout, message);
  return new Failure(EXIT.failed, message);
}
