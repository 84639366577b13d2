"""The bundled film-review classifier and the story that the command `demo` tells. May import recording and below."""
