import Foundation

/// Where a value does not fit a schema, as "place: what is wrong".
struct SchemaProblem: Error { let message: String }

/// Holds parsed JSON against a JSON Schema: the part of it that bundle.schema.json uses, and nothing else.
struct JSONSchema: Sendable {
  private let definitions: JSONObject
  private let formats: [String: @Sendable (String) -> String?]

  /// Takes the schema's document, and for each `format` a function that says what is wrong with a text.
  init(_ document: JSONValue, formats: [String: @Sendable (String) -> String?]) throws {
    guard let definitions = document.object?["$defs"]?.object else { throw unknown("document") }
    self.definitions = definitions
    self.formats = formats
  }

  /// Throws `SchemaProblem` unless a value is what the definition `name` describes.
  func check(_ value: JSONValue, _ name: String) throws { try check(value, definition(name), "") }

  private func definition(_ reference: String) throws -> JSONObject {
    let name = reference.split(separator: "/").last.map(String.init) ?? reference
    guard let found = definitions[name]?.object else { throw unknown(name) }
    return found
  }

  private func check(_ value: JSONValue, _ schema: JSONObject, _ place: String) throws {
    if let reference = schema["$ref"]?.text { try check(value, definition(reference), place) }
    if let any = schema["anyOf"]?.list { try checkAny(value, any, place) }
    if let type = schema["type"]?.text, try !isOf(value, type) { throw problem(place, "\(value.shown) is no \(type)") }
    for keyword in schema.unordered where !notes.contains(keyword) {
      let limit = schema[keyword] ?? .null
      let what = try self.what(keyword, limit, value, place) ?? inside(keyword, limit, value, schema, place)
      if let what { throw problem(place, "\(value.shown) \(what)") }
    }
  }

  private func checkAny(_ value: JSONValue, _ schemas: [JSONValue], _ place: String) throws {
    var first: SchemaProblem?
    for schema in schemas {
      do {
        return try check(value, schema.object ?? [:], place)
      } catch let problem as SchemaProblem {
        first = first ?? problem
      }
    }
    throw first ?? unknown("anyOf")
  }

  /// Returns what is wrong with a value by a keyword that looks at the value alone; nil if nothing is.
  private func what(_ keyword: String, _ limit: JSONValue, _ value: JSONValue, _ place: String) throws -> String? {
    switch keyword {
    case "const": return value == limit ? nil : "must be \(limit.shown)"
    case "enum": return (limit.list ?? []).contains(value) ? nil : "must be one of \((limit.list ?? []).map(\.shown))"
    case "pattern": return try matches(value.text ?? "", limit) ? nil : "does not match \(limit.shown)"
    case "format": return formats[limit.text ?? ""].flatMap { $0(value.text ?? "") }
    case "minimum": return order(value, limit) { $0 >= $1 } ? nil : "is less than \(limit.shown)"
    case "maximum": return order(value, limit) { $0 <= $1 } ? nil : "is more than \(limit.shown)"
    case "exclusiveMinimum": return order(value, limit) { $0 > $1 } ? nil : "is not more than \(limit.shown)"
    case "maxLength":
      return (value.text ?? "").unicodeScalars.count <= (limit.integer ?? 0) ? nil : "has more than \(limit.shown) characters"
    case "minItems", "minProperties": return size(value) >= (limit.integer ?? 0) ? nil : "has fewer than \(limit.shown) entries"
    case "maxItems", "maxProperties": return size(value) <= (limit.integer ?? 0) ? nil : "has more than \(limit.shown) entries"
    case "required":
      let missing = (limit.list ?? []).compactMap(\.text).first { !(value.object?.contains($0) ?? false) }
      return missing.map { "lacks \($0)" }
    default: return nil
    }
  }

  /// Checks what a value holds, by a keyword that says so. Returns what is wrong with the value itself.
  private func inside(
    _ keyword: String, _ inner: JSONValue, _ value: JSONValue, _ schema: JSONObject, _ place: String
  ) throws -> String? {
    switch keyword {
    case "discriminator": return try chosen(value, inner.object ?? [:], place)
    case "items":
      let skipped = schema["prefixItems"]?.list?.count ?? 0
      for (index, entry) in (value.list ?? []).enumerated().dropFirst(skipped) {
        try check(entry, inner.object ?? [:], "\(place).\(index)")
      }
    case "prefixItems":
      for (index, pair) in zip(value.list ?? [], inner.list ?? []).enumerated() {
        try check(pair.0, pair.1.object ?? [:], "\(place).\(index)")
      }
    case "properties", "patternProperties": try properties(keyword, inner.object ?? [:], value, place)
    case "propertyNames":
      for name in value.object?.keys ?? [] { try check(.text(name), inner.object ?? [:], place) }
    case "additionalProperties": return try others(value, inner, schema, place)
    default:
      if !keywordsOfValues.contains(keyword) { throw unknown(keyword) }
    }
    return nil
  }

  /// Checks one of several definitions, by a field of the value that names it.
  private func chosen(_ value: JSONValue, _ choice: JSONObject, _ place: String) throws -> String? {
    guard let object = value.object else { return "is no object" }
    let (field, mapping) = (choice["propertyName"]?.text ?? "", choice["mapping"]?.object ?? [:])
    guard let reference = mapping[object[field]?.text ?? ""]?.text else {
      return "has a \(field) that is not one of \(mapping.keys)"
    }
    try check(value, definition(reference), place)
    return nil
  }

  private func properties(_ keyword: String, _ schemas: JSONObject, _ value: JSONValue, _ place: String) throws {
    guard let object = value.object else { return }
    for name in schemas.unordered {
      let schema = schemas[name]?.object ?? [:]
      if keyword == "properties" {
        if let entry = object[name] { try check(entry, schema, "\(place).\(name)") }
        continue
      }
      for key in object.unordered where try matches(key, .text(name)) {
        try check(object[key] ?? .null, schema, "\(place).\(key)")
      }
    }
  }

  private func others(_ value: JSONValue, _ inner: JSONValue, _ schema: JSONObject, _ place: String) throws -> String? {
    guard let object = value.object else { return nil }
    let known = schema["properties"]?.object ?? [:]
    let patterns = schema["patternProperties"]?.object?.keys ?? []
    for name in object.unordered {
      if try known.contains(name) || patterns.contains(where: { try matches(name, .text($0)) }) { continue }
      if inner == .bool(false) { return "may not have '\(name.shown)'" }
      if let other = inner.object { try check(object[name] ?? .null, other, "\(place).\(name)") }
    }
    return nil
  }

  private func matches(_ text: String, _ pattern: JSONValue) throws -> Bool {
    guard let pattern = pattern.text else { throw unknown("pattern") }
    let expression = try NSRegularExpression(pattern: "\\A(?:\(pattern))\\z")
    return expression.firstMatch(in: text, range: NSRange(location: 0, length: text.utf16.count)) != nil
  }
}

private let notes: Set<String> = ["$ref", "anyOf", "oneOf", "type", "description", "default", "$defs", "title"]
private let keywordsOfValues: Set<String> = [
  "const", "enum", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "maxLength", "minItems", "minProperties",
  "maxItems", "maxProperties", "required",
]

private func isOf(_ value: JSONValue, _ type: String) throws -> Bool {
  switch (type, value) {
  case ("array", .list), ("boolean", .bool), ("null", .null), ("object", .object), ("string", .text): return true
  case ("integer", .integer), ("integer", .large): return true
  case ("number", .integer), ("number", .large), ("number", .real): return true
  default:
    if !["array", "boolean", "null", "object", "string", "integer", "number"].contains(type) { throw unknown(type) }
    return false
  }
}

private func order(_ value: JSONValue, _ limit: JSONValue, _ fits: (Double, Double) -> Bool) -> Bool {
  guard let number = value.number, let other = limit.number else { return false }
  return fits(number, other)
}

private func size(_ value: JSONValue) -> Int { value.list?.count ?? value.object?.count ?? 0 }

private func problem(_ place: String, _ what: String) -> SchemaProblem {
  let shown = String(String.UnicodeScalarView(place.unicodeScalars.dropFirst().prefix(200)))
  return SchemaProblem(message: (shown.isEmpty ? "" : "\(shown): ") + what)
}

private func unknown(_ what: String) -> SchemaProblem {
  SchemaProblem(message: "the schema has a \(what) that is not known here: update this library")
}
