/** A function of any arguments; a caller has to know which it takes. */
export type AnyFunction = (...args: never[]) => unknown

/** The arguments of a call, of any kind. */
export type Arguments = readonly unknown[]
