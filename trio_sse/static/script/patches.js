  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

  // Set a member of any name: `object.__proto__ = value` would do something else.
  function put(object, name, value) {
    Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  }

  /** Apply a JSON Merge Patch (RFC 7396); return a new value without changing the old one. */
  function mergePatch(target, patch) {
    if (!isObject(patch)) return patch;
    const merged = isObject(target) ? { ...target } : {};
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete merged[name];
      else put(merged, name, mergePatch(Object.hasOwn(merged, name) ? merged[name] : undefined, value));
    }
    return merged;
  }

  // Return the parts of a JSON Pointer (RFC 6901).
  function parsePointer(pointer) {
    if (pointer !== "" && !pointer.startsWith("/")) throw new Error(`not a JSON Pointer: ${pointer}`);
    return pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  }

  // Return a part as the name of an existing member or the index of an element; `end` = 1 allows new ones, too.
  function locate(container, part, end = 0) {
    if (Array.isArray(container)) {
      const index = part === "-" && end ? container.length : Number(part);
      if ((/^(0|[1-9]\d*)$/.test(part) || part === "-") && index < container.length + end) return index;
    } else if (isObject(container) && (end || Object.hasOwn(container, part))) {
      return part;
    }
    throw new Error(`no value at ${part}`);
  }

  const read = (value, parts) => parts.reduce((container, part) => container[locate(container, part)], value);

  // Return a copy of the value in which one container is changed; siblings on the path are shared.
  function edited(value, [part, ...rest], change) {
    const copy = Array.isArray(value) ? [...value] : { ...value };
    const place = locate(value, part, rest.length === 0 ? 1 : 0);
    if (rest.length === 0) change(copy, place);
    else put(copy, place, edited(value[place], rest, change));
    return copy;
  }

  function added(value, parts, what) {
    if (parts.length === 0) return what;
    return edited(value, parts, (container, place) => {
      if (Array.isArray(container)) container.splice(place, 0, what);
      else put(container, place, what);
    });
  }

  function removed(value, parts) {
    read(value, parts);
    if (parts.length === 0) return undefined;
    return edited(value, parts, (container, place) => {
      if (Array.isArray(container)) container.splice(place, 1);
      else delete container[place];
    });
  }

  function isSame(one, other) {
    if (typeof one !== "object" || typeof other !== "object" || !one || !other) return one === other;
    const names = Object.keys(one);
    return Array.isArray(one) === Array.isArray(other) && names.length === Object.keys(other).length
      && names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]));
  }

  function applyOperation(document, { op, path, from, value }) {
    const parts = parsePointer(path);
    switch (op) {
      case "add": return added(document, parts, value);
      case "remove": return removed(document, parts);
      case "replace": return parts.length ? added(removed(document, parts), parts, value) : value;
      case "copy": return added(document, parts, read(document, parsePointer(from)));
      case "move":
        if (path.startsWith(`${from}/`)) throw new Error(`${from} cannot be moved into itself`);
        return added(removed(document, parsePointer(from)), parts, read(document, parsePointer(from)));
      case "test":
        if (!isSame(read(document, parts), value)) throw new Error(`test failed at ${path}`);
        return document;
      default: throw new Error(`unknown operation: ${op}`);
    }
  }

  /** Apply a JSON Patch (RFC 6902); return a new value without changing the old one, even if it throws. */
  function jsonPatch(document, operations) {
    return operations.reduce(applyOperation, document);
  }
