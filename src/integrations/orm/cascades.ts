/** The changes that a database adds to the deletion of a row or to a change of its key. The foreign keys of the entities name them. */

/** A foreign key whose rule changes rows when the row that they refer to is deleted, or when its key changes. */
export interface Cascade {
  /** The type that refers. */
  readonly from: string
  readonly to: string
  /** Whether its rows are deleted, or have another key, too. If not, only the reference changes. */
  readonly passesOn: boolean
}

/** The types whose rows change with a row of a type, by cascades of any depth. */
export function cascadesFrom(cascades: readonly Cascade[]): (type: string) => ReadonlySet<string> {
  return (type) => {
    const changed = new Set<string>()
    const sources = new Set([type])
    // A set that grows is walked to its end.
    for (const one of sources)
      for (const { from, to, passesOn } of cascades) {
        if (to !== one) continue
        changed.add(from)
        if (passesOn) sources.add(from)
      }
    return changed
  }
}

/** Whether the rule of a foreign key changes rows, and whether it passes that on. `undefined` if it does neither. */
export function effectOf(rule: string | undefined): Pick<Cascade, 'passesOn'> | undefined {
  const name = rule?.toLowerCase()
  if (name === 'cascade') return { passesOn: true }
  return name === 'set null' || name === 'set default' || name === 'default' ? { passesOn: false } : undefined
}
