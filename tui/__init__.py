"""The terminal view of a trace. It reads traces and nothing else: no torch, no model.

The map, from the top; a folder or module imports only what stands below it:

    app            the application: moves between the screens, starts on a trace, a folder or a recording
    screens/       whole screens with their styles, each loaded when it is first shown
    widgets/       the panes that screens are made of
    host           what screens and widgets know of the application
    lines/         figures and a width in, lines of text with roles out
    live/          traces that are being recorded       terminal/   what differs from terminal to terminal
    actions        the table of what the user can do    looks/      roles of text, themes, shades by size
    screen_table   the screens: key, title, actions     keys        an action with its keys
    model/         what the screens show and remember
"""
