/** A part that a client can do without, as one of the functions beside the core's `connect()` makes it. */
export interface Part<Option extends string, Context, Made> {
  /** @internal For the compiler alone: the option that takes it. */
  readonly option?: Option;
  /** @internal */
  plug(to: Context): Made;
}
