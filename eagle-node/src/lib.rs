//! EagleDB node.
