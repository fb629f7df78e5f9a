/** A function of any arguments; a caller has to know which it takes. */
export type AnyFunction = (...args: never[]) => unknown

/** The arguments of a call, of any kind. */
export type Arguments = readonly unknown[]

/** `Parameters`, also of a function with a readonly rest: `(...ids: readonly number[])`. */
export type ArgumentsOf<F extends AnyFunction> = F extends (
  ...args: infer A extends readonly unknown[]
) => unknown
  ? A
  : never
