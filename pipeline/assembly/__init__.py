"""Parts of the engine, put together as the settings ask for them."""
